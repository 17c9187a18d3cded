"""A YAML tree whose nodes know where they were written, and the merge of two trees.

Notable choices:

- Mappings are merged. Lists and scalars are replaced.
- Another `type:` drops the configuration of the old part, and so does `checkpoint:`, which also names a part.
- A bare name of a part is short for `{type: name}`.
- Trees are never changed, only rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, Location, Problem
from ..wording import NodePath, dotted, given


@dataclass(frozen=True)
class Span:
    """Where a value was written: its key (for an item of a list, the item), and the value itself."""

    key: Location
    value: Location


@dataclass(frozen=True)
class Node:
    """A mapping, a list or a scalar, and where it was written."""

    value: dict[str, Node] | list[Node] | str | float | bool | None
    span: Span

    def plain(self) -> Any:
        """Return the same tree as dictionaries, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def walk(self, path: NodePath = ()) -> Iterator[tuple[NodePath, Node]]:
        """Yield this node and all below it, each with its path."""
        yield path, self
        below = self.value if isinstance(self.value, dict | list) else []
        for key, node in below.items() if isinstance(below, dict) else enumerate(below):
            yield from node.walk((*path, key))

    def moved(self, span: Span) -> Node:
        """Return the same tree with one span for every node."""
        if isinstance(self.value, dict):
            return Node({key: node.moved(span) for key, node in self.value.items()}, span)
        if isinstance(self.value, list):
            return Node([node.moved(span) for node in self.value], span)
        return Node(self.value, span)


def lay_over(base: Node | None, patch: Node) -> Node:
    """Merge a patch into a base by the rules in the docstring of this module."""
    if base is None:
        return patch
    below, above = base.value, patch.value
    if isinstance(below, dict) and "type" in below and isinstance(above, str):
        return lay_over(base, _by_type(patch))
    if isinstance(below, str) and isinstance(above, dict):
        return lay_over(_by_type(base), patch)
    if not (isinstance(below, dict) and isinstance(above, dict)) or _other_part(below, above):
        return patch
    return Node(below | {key: lay_over(below.get(key), node) for key, node in above.items()}, patch.span)


def lay_at(base: Node | None, path: Sequence[str], patch: Node, *, above: NodePath = ()) -> Node:
    """Merge a patch into the node at a path. Numeric components are indices of lists.

    Args:
        above: the path of `base` itself, for messages

    Raises:
        ConfigError: if the path leads through a number or past the end of a list
    """
    if not path:
        return lay_over(base, patch)
    key, rest = path[0], path[1:]
    if base is not None and isinstance(base.value, list):
        index = _index(base.value, key, above, patch.span.key)
        items = list(base.value)
        items[index] = lay_at(items[index], rest, patch, above=(*above, index))
        return Node(items, base.span)
    if base is not None and isinstance(base.value, str):
        base = _by_type(base)
    value = None if base is None else base.value
    if isinstance(value, bool | int | float):
        message = f"`{dotted(above)}` is {given(value)}, so there is no `{key}` below it"
        raise ConfigError([Problem(patch.span.key, message)])
    if value is None and key.isdecimal():
        message = f"there is no list at `{dotted(above)}`, so it has no item {key}; write the list in the file"
        raise ConfigError([Problem(patch.span.key, message)])
    entries = value if isinstance(value, dict) else {}
    laid = lay_at(entries.get(key), rest, patch, above=(*above, key))
    return Node(entries | {key: laid}, patch.span if base is None else base.span)


def _by_type(name: Node) -> Node:
    return Node({"type": name}, name.span)


def _other_part(below: dict[str, Node], above: dict[str, Node]) -> bool:
    if "type" in below and "type" in above:
        return below["type"].value != above["type"].value
    names = {"type", "checkpoint"}
    return bool(names & below.keys() and names & above.keys())


def _index(items: list[Node], component: str, path: NodePath, where: Location) -> int:
    if component.isdecimal() and int(component) < len(items):
        return int(component)
    allowed = f"0 to {len(items) - 1}" if items else "none, because it is empty"
    message = f"`{dotted(path)}` is a list and has no item `{component}`; allowed: {allowed}"
    raise ConfigError([Problem(where, message)])
