"""The docstring under each field of a configuration, as the field's description.

Notable choices:

- The source code is read on demand (`ossicle explain`, the JSON schema), because reading and parsing it takes longer
  than everything else about defining a configuration.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar, get_args

from ..config import Config

C = TypeVar("C", bound=Config)


def documented(config: type[C]) -> type[C]:
    """Use the docstring under each field as its description, also in nested configurations.

    A description in the field itself is not changed. If the source code cannot be read, there is no description.
    """
    undescribed = [name for name, field in config.model_fields.items() if field.description is None]
    for field in config.model_fields.values():
        for inner in configs_in(field.annotation):
            documented(inner)
    if undescribed:
        docs = _docs(config)
        for name in undescribed:
            config.model_fields[name].description = docs.get(name)
        config.model_rebuild(force=True)
    return config


def configs_in(annotation: Any) -> list[type[Config]]:
    """Find the configurations in an annotation, including those inside lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [config for argument in get_args(annotation) for config in configs_in(argument)]


def _docs(config: type[Config]) -> dict[str, str]:
    """Map fields to docstrings. A field that a subclass redefines has the docstring of the subclass, or none."""
    docs: dict[str, str] = {}
    for owner in reversed(config.__mro__):
        if issubclass(owner, Config):
            stated = dict(_docs_in_source(owner))
            docs = {name: text for name, text in docs.items() if name not in owner.__annotations__} | stated
    return docs


def _docs_in_source(owner: type) -> Iterator[tuple[str, str]]:
    try:
        source = inspect.getsource(owner)
    except (OSError, TypeError):
        return
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    for pair in pairwise(definition.body):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                yield name, inspect.cleandoc(text)
