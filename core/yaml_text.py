"""YAML text to a plain tree and back, with the place of every key and value.

Notable choices: scalars follow YAML 1.2's core schema (`5e-4` is a float, `on` and `no` are text, `017` is seventeen),
where pyyaml follows 1.1; duplicate keys, keys that are no text and tags are errors; text that starts with `./` or
`../` is a path beside the file that states it and is made absolute here, while the file is still known.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from .errors import ConfigError, Location, Problem
from .yaml_errors import syntax_problem

Key: TypeAlias = str | int
NodePath: TypeAlias = tuple[Key, ...]

_PREFIX = "tag:yaml.org,2002:"
_SCALARS: list[tuple[str, str, list[str]]] = [
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", ["<"]),
]
_MOST_NODES = 100_000


@dataclass(frozen=True)
class Place:
    """Where a value stands: its key (for an item of a list, the item), and the value itself."""

    key: Location
    value: Location


class _Loader(yaml.SafeLoader):
    """pyyaml's composer with YAML 1.2's scalars and without tags."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (pyyaml's own attribute; empties the 1.1 table)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem=f"found a tag {event.tag}", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Writes block style; lists of plain values stay on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_list(self, data: list[Any]) -> yaml.Node:
        node = super().represent_list(data)
        node.flow_style = not any(isinstance(item, dict | list) and item for item in data)
        return node


for _name, _pattern, _first in _SCALARS:
    # The dumper keeps the 1.1 table as well: text that either version would read as something else is quoted.
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_PREFIX + _name, re.compile(rf"^(?:{_pattern})$"), _first)
_Dumper.add_representer(list, _Dumper.represent_list)


def read_yaml(text: str, *, source: str, folder: Path) -> tuple[Any, dict[NodePath, Place]]:
    """Read a text into dictionaries, lists and scalars.

    Args:
        source: what to call the text in messages
        folder: what paths that start with `./` or `../` are relative to

    Returns:
        The tree (None for an empty text) and the place of every node by its path.

    Raises:
        ConfigError: if the text is no YAML, or YAML that Ossicle does not take
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([syntax_problem(error, text, source)]) from error
    if root is None:
        return None, {}
    builder = _Builder(source, folder)
    tree = builder.build(root, (), None)
    if builder.problems:
        raise ConfigError(list(dict.fromkeys(builder.problems)))
    return tree, builder.places


def to_yaml(tree: Any) -> str:
    """Write a tree so that `read_yaml` gives it back: keys in their order, one per line."""
    return str(
        yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)
    )


class _Builder:
    """Turns composed nodes into a tree, noting places and collecting problems."""

    def __init__(self, source: str, folder: Path) -> None:
        self.source = source
        self.folder = folder.absolute()
        self.places: dict[NodePath, Place] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()

    def build(self, node: yaml.Node, path: NodePath, key: Location | None) -> Any:
        here = self._location(node)
        in_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
        self.places[path] = Place(key or here, key if key and in_block else here)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            return self._complain(node, "this anchor holds itself; write the value out")
        if len(self.places) > _MOST_NODES:
            return self._complain(node, f"anchors unfold to more than {_MOST_NODES} values; write fewer of them")
        self._open.add(id(node))
        tree: Any
        if isinstance(node, yaml.SequenceNode):
            tree = [self.build(item, (*path, index), None) for index, item in enumerate(node.value)]
        else:
            tree = {
                name: self.build(value, (*path, name), self._location(key_node))
                for name, (key_node, value) in self._pairs(node, inherited=()).items()
            }
        self._open.discard(id(node))
        return tree

    def _pairs(self, node: yaml.Node, inherited: tuple[int, ...]) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """The entries of a mapping by key; its own win over those that `<<` brings in."""
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == _PREFIX + "merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
            elif key.tag != _PREFIX + "str":
                shown = f"`{key.value}`" if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                self._complain(key, f"a key must be text, but is {shown}; put quotes around it")
            elif key.value in pairs:
                first = self._location(pairs[key.value][0])
                self._complain(
                    key, f"`{key.value}` is given twice, first at line {first.line}, column {first.column}; keep one"
                )
            else:
                pairs[key.value] = (key, value)
        for other in merged:
            if not isinstance(other, yaml.MappingNode) or id(other) in (*inherited, id(node)):
                self._complain(other, "`<<` takes an anchored mapping (`<<: *name`) or a list of them")
                continue
            for name, pair in self._pairs(other, (*inherited, id(node))).items():
                pairs.setdefault(name, pair)
        return pairs

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        kind, text = node.tag.removeprefix(_PREFIX), node.value
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "float":
            return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
        if kind == "int":
            base = {"0o": 8, "0x": 16}.get(text[:2], 10)
            try:
                return int(text, base)
            except ValueError:
                return self._complain(node, "this number is too long")
        if text.startswith(("./", "../")):
            return os.path.normpath(self.folder / text)
        return text

    def _location(self, node: yaml.Node) -> Location:
        return Location(self.source, node.start_mark.line + 1, node.start_mark.column + 1)

    def _complain(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(self._location(node), message))
