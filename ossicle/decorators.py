"""A decorator for each built-in kind of part.

`@ossicle.tokenizer("mine")` is short for `@ossicle.part("tokenizer", "mine")`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .core.catalog import part

C = TypeVar("C", bound=type)


def _named(kind: str) -> Callable[[str], Callable[[C], C]]:
    def decorator(name: str) -> Callable[[C], C]:
        return part(kind, name)

    decorator.__doc__ = f"Offer the decorated class as a {kind.replace('_', ' ')} of this name."
    return decorator


corpus = _named("corpus")
front_end = _named("front_end")
encoder = _named("encoder")
tokenizer = _named("tokenizer")
head = _named("head")
objective = _named("objective")
masking = _named("masking")
schedule = _named("schedule")
task = _named("task")
launcher = _named("launcher")
