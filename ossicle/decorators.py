"""A decorator for each built-in kind of part, and one for kinds of stages.

`@ossicle.tokenizer("mine")` is short for `@ossicle.part("tokenizer", "mine")`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .core.catalog import Declared, part
from .core.stages import Stage, check_kind

C = TypeVar("C", bound=type)
S = TypeVar("S", bound=Stage)


def _named(kind: str) -> Callable[[str], Callable[[C], C]]:
    def decorator(name: str) -> Callable[[C], C]:
        return part(kind, name)

    decorator.__doc__ = f"Register the decorated class as a {kind.replace('_', ' ')} under this name."
    return decorator


corpus = _named("corpus")
front_end = _named("front_end")
encoder = _named("encoder")
tokenizer = _named("tokenizer")
head = _named("head")
objective = _named("objective")
masking = _named("masking")
optimizer = _named("optimizer")
lr_schedule = _named("lr_schedule")
schedule = _named("schedule")
task = _named("task")
launcher = _named("launcher")


def stage(kind: type[S]) -> type[S]:
    """Register the decorated dataclass as a kind of stage, under its `kind`."""
    check_kind(kind)
    Declared("stage", kind.kind, kind).note()
    return kind
