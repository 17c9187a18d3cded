"""Merge YAML files, presets and overrides into one mapping that remembers where each value was written.

Notable choices:

- `base:`, overrides of the command line and variants of an ablation use the same merge operation (see `nodes`).
- A value keeps its span when it is merged, so an error in a preset names the file of the preset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ConfigError, Location, Problem
from ..wording import NodePath, choices, dotted, given, short
from .nodes import Node, Span, lay_at, lay_over
from .presets import preset_names, preset_path
from .yaml_reader import read_yaml, to_yaml

__all__ = [
    "Document",
    "apply_patch",
    "load_document",
    "merge",
    "override",
    "parse_document",
    "resolve_base",
    "to_yaml",
]


@dataclass(frozen=True)
class Document:
    """A mapping from YAML, with the location of every value.

    Attributes:
        root: the mapping as nodes with spans
        source: what to call the document in messages
        file: the file it was read from
    """

    root: Node
    source: str
    file: Path | None = field(default=None, compare=False)

    @cached_property
    def tree(self) -> dict[str, Any]:
        """The document as dictionaries, lists and scalars."""
        tree: dict[str, Any] = self.root.plain()
        return tree

    @cached_property
    def spans(self) -> dict[NodePath, Span]:
        """The span of every node by its path; the root's path is `()`."""
        return {path: node.span for path, node in self.root.walk()}

    def span(self, path: NodePath) -> Span:
        """Return where a path was written, or where its nearest written ancestor was."""
        while path not in self.spans:
            path = path[:-1]
        return self.spans[path]

    def at(self, *path: str) -> Document:
        """Return the mapping at a path as a separate document.

        Raises:
            ConfigError: if there is no mapping at the path
        """
        node = self.root
        for key in path:
            below = node.value.get(key) if isinstance(node.value, dict) else None
            if below is None:
                raise ConfigError([Problem(node.span.value, f"`{dotted(path)}` is missing")])
            node = below
        return Document(_mapping(node, f"`{dotted(path)}`"), self.source, self.file)

    def without(self, key: str) -> Document:
        """Return the document without one top-level key."""
        entries = {name: node for name, node in _entries(self.root).items() if name != key}
        return Document(Node(entries, self.root.span), self.source, self.file)


def parse_document(text: str, source: str, folder: Path) -> Document:
    """Read a YAML text whose top level is a mapping.

    Args:
        source: what to call the text in messages
        folder: what paths that start with `./` or `../` are relative to

    Raises:
        ConfigError: if the text is empty, is not YAML or is not a mapping
    """
    root = read_yaml(text, source=source, folder=folder)
    if root is None:
        raise ConfigError([Problem(Location(source, 1, 1), "the file is empty")])
    return Document(_mapping(root, "the file"), source)


def load_document(path: Path, *, named_at: Location | None = None) -> Document:
    """Read a YAML file.

    Args:
        named_at: where another file names this file

    Raises:
        ConfigError: if the file is missing, unreadable or empty, or is not UTF-8, YAML or a mapping
    """
    source = shown(path)
    where = named_at or source
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError([Problem(where, _missing(path))]) from None
    except OSError as error:
        raise ConfigError([Problem(where, f"`{source}` cannot be read: {error.strerror}")]) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = Location(source, raw.count(b"\n", 0, error.start) + 1, error.start - raw.rfind(b"\n", 0, error.start))
        message = f"the byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8 text"
        raise ConfigError([Problem(start, message)]) from error
    return Document(parse_document(text, source, path.parent).root, source, path.absolute())


def shown(path: Path) -> str:
    """Format a path for messages: relative to the working directory if it is inside."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def merge(base: Document, patch: Document) -> Document:
    """Merge one document into another. Neither is changed."""
    return Document(lay_over(base.root, patch.root), patch.source, patch.file)


def apply_patch(document: Document, patch: Document) -> Document:
    """Set values in a document at dotted paths.

    Args:
        patch: dotted path to value, such as `schedule.iterations.0.tokenizer: {type: random_projection}`

    Raises:
        ConfigError: if a path leads through a number or past the end of a list
    """
    root = document.root
    for path, value in _entries(patch.root).items():
        root = lay_at(root, path.split("."), value)
    return Document(root, document.source, document.file)


@dataclass(frozen=True)
class _OverrideLocation(Location):
    """An override from the command line; its location is its own text."""

    def __str__(self) -> str:
        return self.source


def override(document: Document, text: str) -> Document:
    """Apply one `dotted.path=VALUE` of the command line to a document. VALUE is YAML.

    Raises:
        ConfigError: if the text has another form, or its path does not fit the document
    """
    where = _OverrideLocation(f"override '{short(text)}'", 1, 1)
    path, equals, value = text.partition("=")
    components = path.strip().split(".")
    if not equals or not all(components):
        raise ConfigError([Problem(where, "an override is written `key=value` or `key.below.0.further=value`")])
    if components[0] == "base":
        raise ConfigError([Problem(where, "`base` cannot be overridden; set it in the file")])
    try:
        node = read_yaml(value, source=where.source, folder=Path.cwd()) or Node(None, Span(where, where))
    except ConfigError as error:
        raise ConfigError([Problem(where, problem.message) for problem in error.problems]) from error
    root = lay_at(document.root, components, node.moved(Span(where, where)))
    return Document(root, document.source, document.file)


def resolve_base(
    document: Document,
    presets: Callable[[str], Path | None] = preset_path,
    names: Callable[[], list[str]] = preset_names,
) -> Document:
    """Merge a document into its `base:`, which is first merged into its own base.

    A base that starts with `./`, `../` or `/` or ends in `.yaml` is a file. Any other is a preset. A list of bases is
    merged from left to right.

    Args:
        presets: maps the name of a preset to its file, or to None if there is no such preset
        names: lists the names of the presets, for messages

    Raises:
        ConfigError: if a base is unknown or missing, or if bases form a cycle
    """
    return _resolved(document, presets, names, ())


def _resolved(
    document: Document,
    presets: Callable[[str], Path | None],
    names: Callable[[], list[str]],
    chain: tuple[Path, ...],
) -> Document:
    stated = _entries(document.root).get("base")
    if stated is None:
        return document
    chain = (*chain, document.file.resolve()) if document.file else chain
    bases: Document | None = None
    for node in stated.value if isinstance(stated.value, list) else [stated]:
        path = _base_path(node, document, presets, names)
        if path.resolve() in chain:
            cycle = " -> ".join(shown(link) for link in (*chain[chain.index(path.resolve()) :], path.resolve()))
            raise ConfigError([Problem(node.span.value, f"`base` forms a cycle: {cycle}")])
        base = _resolved(load_document(path, named_at=node.span.value), presets, names, chain)
        bases = base if bases is None else merge(bases, base)
    rest = document.without("base")
    return rest if bases is None else merge(bases, rest)


def _base_path(
    node: Node, document: Document, presets: Callable[[str], Path | None], names: Callable[[], list[str]]
) -> Path:
    name = node.value
    if not isinstance(name, str):
        message = f"`base` must be a preset's name, a file or a list of them, but is {given(name)}"
        raise ConfigError([Problem(node.span.value, message)])
    if name.startswith("/") or name.endswith(".yaml"):
        return (document.file.parent if document.file else Path.cwd()) / name
    path = presets(name)
    if path is None:
        message = f"there is no preset `{name}`. {choices(name, names())} A file is written `./{name}.yaml`."
        raise ConfigError([Problem(node.span.value, message)])
    return path


def _entries(root: Node) -> Mapping[str, Node]:
    return root.value if isinstance(root.value, dict) else {}


def _mapping(node: Node, what: str) -> Node:
    if not isinstance(node.value, dict):
        message = f"{what} must be a mapping (`key: value` lines), but is {given(node.value)}"
        raise ConfigError([Problem(node.span.value, message)])
    return node


def _missing(path: Path) -> str:
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"there is no file `{path.name}`, because there is no folder {folder}"
    files = sorted(item.name for item in folder.iterdir() if item.suffix in (".yaml", ".yml"))
    return f"there is no file `{path.name}` in {folder}. {choices(path.name, files)}"
