"""Read YAML text into a tree with the span of every key and value, and write a tree as YAML.

Notable choices:

- Scalars follow the core schema of YAML 1.2, unlike pyyaml, which follows 1.1: `5e-4` is a float, `on` and `no` are
  text, `017` is seventeen.
- Duplicate keys, keys that are not text, and tags are errors.
- Text that starts with `./` or `../` is a path relative to the YAML file. It is made absolute here, where the file is
  still known.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError, Location, Problem
from .nodes import Node, Span
from .yaml_errors import syntax_problem

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


class _Loader(yaml.SafeLoader):
    """pyyaml's composer with YAML 1.2's scalars and without tags."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (pyyaml's own attribute; empties the 1.1 table)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"found a tag {event.tag.replace(_PREFIX, '!!')}", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """A dumper that writes block style, but lists of plain values on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    node = dumper.represent_sequence(_PREFIX + "seq", data)
    node.flow_style = not any(isinstance(item, dict | list) and item for item in data)
    return node


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # Outside double quotes, pyyaml writes these characters unchanged and reads them as line breaks.
    style = '"' if re.search(r"[\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar(_PREFIX + "str", text, style=style)


for _name, _pattern, _first in _SCALARS:
    # The dumper also keeps the 1.1 table, so it quotes text that either version would not read as text.
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_PREFIX + _name, re.compile(rf"^(?:{_pattern})$"), _first)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


def read_yaml(text: str, *, source: str, folder: Path) -> Node | None:
    """Read a text into a tree of nodes. Return None if the text is empty.

    Args:
        source: name of the text in messages
        folder: what paths that start with `./` or `../` are relative to

    Raises:
        ConfigError: if the text is not YAML, or is YAML that Ossicle does not allow
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError([syntax_problem(error, text, source)]) from error
    if root is None:
        return None
    builder = _Builder(source, folder)
    tree = builder.build(root)
    if builder.problems:
        raise ConfigError(list(dict.fromkeys(builder.problems)))
    return tree


def to_yaml(tree: Any) -> str:
    """Write a tree so that `read_yaml` returns the same tree. Keys keep their order, one per line."""
    return str(
        yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)
    )


class _Builder:
    """Converts pyyaml's nodes to ours, and collects problems."""

    def __init__(self, source: str, folder: Path) -> None:
        self.source = source
        self.folder = folder.absolute()
        self.problems: list[Problem] = []
        self._built = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node, key: Location | None = None) -> Node:
        here = self._location(node)
        if isinstance(node, yaml.ScalarNode):
            return Node(self._scalar(node), Span(key or here, here))
        # A block mapping starts at its first key, whose location would not identify the whole mapping.
        in_block = isinstance(node, yaml.CollectionNode) and not node.flow_style
        span = Span(key or here, key if key and in_block else here)
        if not self._may_enter(node):
            return Node(None, span)
        self._open.add(id(node))
        value: dict[str, Node] | list[Node]
        if isinstance(node, yaml.SequenceNode):
            value = [self.build(item) for item in node.value]
        else:
            pairs = self._pairs(node, inherited=())
            value = {name: self.build(below, self._location(at)) for name, (at, below) in pairs.items()}
        self._open.discard(id(node))
        return Node(value, span)

    def _may_enter(self, node: yaml.Node) -> bool:
        """Return whether a node can be built. Anchors must not contain themselves or expand to too many values."""
        self._built += len(node.value)
        if id(node) in self._open:
            self._complain(node, "this anchor contains itself; write the value out")
        elif self._built > _MOST_NODES:
            self._complain(node, f"anchors expand to more than {_MOST_NODES} values; use fewer of them")
        else:
            return True
        return False

    def _pairs(self, node: yaml.Node, inherited: tuple[int, ...]) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return the entries of a mapping by key. Its own entries take precedence over those merged by `<<`."""
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
                self._complain(node, "this number is too long")
                return None
        if re.search(r"[\ud800-\udfff]", text):
            self._complain(node, "half of a surrogate pair is not a character; write the character itself")
        if text.startswith(("./", "../")):
            return os.path.normpath(self.folder / text)
        return text

    def _location(self, node: yaml.Node) -> Location:
        return Location(self.source, node.start_mark.line + 1, node.start_mark.column + 1)

    def _complain(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(self._location(node), message))
