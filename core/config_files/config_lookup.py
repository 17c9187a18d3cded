"""Find the configuration class at a path of a YAML tree, following annotations and the `type:` of each part.

Errors need it to list the allowed keys, because pydantic's errors do not say which model they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from ..choices import CHECKPOINT, ChoiceOf, is_checkpoint
from ..config import Config
from ..wording import NodePath

if TYPE_CHECKING:
    from ..catalog import Catalog


def config_at(model: type[Config], path: NodePath, tree: Any, catalog: Catalog) -> type[Config] | None:
    """Find the configuration class of the mapping at a path, or None if there is none.

    Args:
        model: the class of the whole tree
        tree: dictionaries, lists and scalars, perhaps invalid
    """
    classes: list[Any] = [model]
    for key in path:
        below = [child for annotation in classes for child in _children(annotation, key)]
        tree = _item(tree, key)
        classes = [plain for annotation in below for plain in _unfolded(annotation, tree, catalog)]
    return next((found for found in classes if isinstance(found, type) and issubclass(found, Config)), None)


def _unfolded(annotation: Any, tree: Any, catalog: Catalog) -> Iterator[Any]:
    """Unwrap `Annotated` and unions. For a part, yield the configuration class of the named part."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        choice = next((item for item in arguments[1:] if isinstance(item, ChoiceOf)), None)
        if choice is None:
            yield from _unfolded(arguments[0], tree, catalog)
            return
        name = tree.get("type") if isinstance(tree, dict) else tree
        if is_checkpoint(tree):
            name = CHECKPOINT
        part = catalog.find(choice.kind, name)
        if part is not None:
            yield part.config
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _unfolded(argument, tree, catalog)
    else:
        yield annotation


def _children(annotation: Any, key: str | int) -> list[Any]:
    """Return the annotations of the values below a key."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Config):
        field = annotation.model_fields.get(str(key))
        if field is None:
            return []
        return [Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation]
    if origin is tuple and isinstance(key, int) and Ellipsis not in arguments:
        return [arguments[key]] if key < len(arguments) else []
    return [arguments[-1] if origin is not tuple else arguments[0]] if arguments else []


def _item(tree: Any, key: str | int) -> Any:
    if isinstance(tree, dict):
        return tree.get(key)
    return tree[key] if isinstance(tree, list) and isinstance(key, int) and key < len(tree) else None
