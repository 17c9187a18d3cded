"""Trees that remember where each value was written, and how they are laid over each other.

Notable choices: `base:`, `--set` and an ablation's variants are one operation, `merge`: mappings are merged, lists and
scalars replaced, and another `type:` drops what the base said of the old part; a part's name alone stands for
`{type: name}`. Places travel with the values, so that an error in a preset names the preset's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigError, Location, Problem
from .wording import choices, dotted, given, short
from .yaml_text import NodePath, Place, read_yaml, to_yaml

__all__ = [
    "Document",
    "NodePath",
    "Place",
    "apply_patch",
    "load_document",
    "merge",
    "override",
    "parse_document",
    "to_yaml",
]


@dataclass(frozen=True)
class Document:
    """A mapping from a YAML and where all of it was written.

    Attributes:
        tree: dictionaries, lists and scalars
        places: the place of every node of `tree` by its path; the root's path is `()`
        source: what to call the document in messages
        file: the file it was read from
    """

    tree: dict[str, Any]
    places: Mapping[NodePath, Place]
    source: str
    file: Path | None = field(default=None, compare=False)

    def at(self, path: NodePath) -> Document:
        """The mapping at a path, as a document of its own.

        Raises:
            ConfigError: if a mapping does not stand there
        """
        tree: Any = self.tree
        for depth, key in enumerate(path):
            if not (isinstance(tree, dict) and key in tree):
                raise ConfigError([Problem(self.place(path).key, f"`{dotted(path[: depth + 1])}` is missing")])
            tree = tree[key]
        if not isinstance(tree, dict):
            raise _no_mapping(self.place(path).value, f"`{dotted(path)}`", tree)
        places = {where[len(path) :]: place for where, place in self.places.items() if where[: len(path)] == path}
        return Document(tree, places, self.source, self.file)

    def place(self, path: NodePath) -> Place:
        """Where a path was written, or the nearest written place above it."""
        while path not in self.places and path:
            path = path[:-1]
        start = Location(self.source, 1, 1)
        return self.places.get(path, Place(start, start))

    def without(self, key: str) -> Document:
        """The same document less one top-level key."""
        tree = {name: value for name, value in self.tree.items() if name != key}
        places = {path: place for path, place in self.places.items() if path[:1] != (key,)}
        return Document(tree, places, self.source, self.file)


def parse_document(text: str, source: str, folder: Path) -> Document:
    """Read a YAML text whose top level is a mapping.

    Args:
        source: what to call the text in messages
        folder: what paths that start with `./` or `../` are relative to

    Raises:
        ConfigError: if the text is empty, no YAML or no mapping
    """
    tree, places = read_yaml(text, source=source, folder=folder)
    start = Location(source, 1, 1)
    if tree is None:
        raise ConfigError([Problem(start, "the file is empty; an experiment needs at least a `name:`")])
    if not isinstance(tree, dict):
        raise _no_mapping(places[()].value, "the file", tree)
    return Document(tree, places, source)


def load_document(path: Path, *, asked_at: Location | None = None) -> Document:
    """Read a YAML file.

    Args:
        path: the file
        asked_at: where it was named, if in another file

    Raises:
        ConfigError: if the file is missing, unreadable, empty, no UTF-8, no YAML or no mapping
    """
    source = shown(path)
    where = asked_at or source
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError([Problem(where, _missing(path))]) from None
    except OSError as error:
        raise ConfigError([Problem(where, f"`{source}` cannot be read: {error.strerror}")]) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"the byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8 text"
        raise ConfigError([Problem(Location(source, line, column), message)]) from error
    document = parse_document(text, source, path.parent)
    return Document(document.tree, document.places, source, path.absolute())


def shown(path: Path) -> str:
    """A path as messages show it: relative to the working directory where it lies inside."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def merge(base: Document, patch: Document) -> Document:
    """Lay one document over another; neither is changed."""
    return _lay(base, (), patch.tree, patch.places, patch.source, patch.file)


def apply_patch(document: Document, patch: Document | Mapping[str, Any]) -> Document:
    """Lay values over a document at dotted paths.

    Args:
        document: what to start from
        patch: dotted path to value, `{"schedule.iterations.0.tokenizer": {"type": "random_projection"}}`; as a
            `Document`, errors name the places where it was written

    Raises:
        ConfigError: if a path leads through a scalar or past the end of a list
    """
    if not isinstance(patch, Document):
        patch = Document(dict(patch), {}, "patch")
    for key, value in patch.tree.items():
        below = {path[1:]: place for path, place in patch.places.items() if path[:1] == (key,)}
        document = _put(document, key, value, below or {(): patch.place((key,))})
    return document


@dataclass(frozen=True)
class _OverrideLocation(Location):
    """A command line's override; it is its own place."""

    def __str__(self) -> str:
        return self.source


def override(document: Document, text: str) -> Document:
    """Lay one `dotted.path=VALUE` of the command line over a document; VALUE is YAML.

    Raises:
        ConfigError: if the text has another form, or its path does not fit the document
    """
    where = _OverrideLocation(f"override '{short(text)}'", 1, 1)
    path, equals, value = text.partition("=")
    if not equals or not all(path.strip().split(".")):
        message = "an override is written `key=value` or `key.below.0.further=value`"
        raise ConfigError([Problem(where, message)])
    try:
        tree, places = read_yaml(value, source=where.source, folder=Path.cwd())
    except ConfigError as error:
        raise ConfigError([Problem(where, problem.message) for problem in error.problems]) from error
    here = Place(where, where)
    return _put(document, path.strip(), tree, {(): here} | dict.fromkeys(places, here))


def _put(document: Document, dotted_path: str, value: Any, places: Mapping[NodePath, Place]) -> Document:
    """Lay a value over the node at a dotted path."""
    where = places[()]
    path: NodePath = ()
    node: Any = document.tree
    for component in dotted_path.split("."):
        if isinstance(node, list):
            key: str | int = _index(node, component, path, where.key)
            node = node[int(key)]
        else:
            _enter(node, component, path, where.key)
            key = component
            node = node.get(component) if isinstance(node, dict) else None
        path = (*path, key)
    absolute = {(*path, *below): place for below, place in places.items()}
    return _lay(document, path, value, absolute, document.source, document.file)


def _index(items: list[Any], component: str, path: NodePath, where: Location) -> int:
    if component.isdecimal() and int(component) < len(items):
        return int(component)
    places = f"0 to {len(items) - 1}" if items else "none, for it is empty"
    message = f"`{dotted(path)}` is a list, which has no item `{component}`; allowed: {places}"
    raise ConfigError([Problem(where, message)])


def _enter(node: Any, component: str, path: NodePath, where: Location) -> None:
    """Check that a key can stand below a node; a text may be a part's name, which stands for a mapping."""
    if isinstance(node, bool | int | float):
        message = f"`{dotted(path)}` is {given(node)}, so there is no `{component}` below it"
        raise ConfigError([Problem(where, message)])
    if component.isdecimal() and not isinstance(node, dict):
        message = f"there is no list at `{dotted(path)}` to take item {component} of; write the list in the file"
        raise ConfigError([Problem(where, message)])


def _lay(
    base: Document,
    path: NodePath,
    value: Any,
    places: Mapping[NodePath, Place],
    source: str,
    file: Path | None,
) -> Document:
    """Lay `value` over the base's node at `path`; `places` are those of `value`, by full path."""
    kept = dict(base.places)
    tree = _laid(base.tree, (), path, value, kept, places)
    return Document(tree, kept, source, file)


def _laid(
    base: Any, here: NodePath, rest: NodePath, value: Any, kept: dict[NodePath, Place], places: Mapping[NodePath, Place]
) -> Any:
    """The tree with `value` laid over it at `here + rest`; `kept` becomes the places of the result."""
    if rest:
        key = rest[0]
        if isinstance(base, list):
            below = _laid(base[int(key)], (*here, key), rest[1:], value, kept, places)
            return [below if index == key else item for index, item in enumerate(base)]
        if isinstance(base, str):
            base = {"type": base}
            kept[*here, "type"] = kept[here]
        entries = dict(base or {})
        kept.setdefault((*here, key), places[(*here, *rest)])
        entries[str(key)] = _laid(entries.get(str(key)), (*here, key), rest[1:], value, kept, places)
        return entries
    return _over(base, here, value, kept, places)


def _over(base: Any, here: NodePath, value: Any, kept: dict[NodePath, Place], places: Mapping[NodePath, Place]) -> Any:
    """Lay a value over a node, following the rules at the head of this module."""
    if isinstance(base, dict) and "type" in base and isinstance(value, str):
        places = dict(places) | {(*here, "type"): places[here]}
        value = {"type": value}
    elif isinstance(base, str) and isinstance(value, dict):
        kept[*here, "type"] = kept[here]
        base = {"type": base}
    same_part = isinstance(base, dict) and isinstance(value, dict) and value.get("type", base.get("type")) == base.get("type", value.get("type"))
    if not same_part:
        for old in [path for path in kept if path[: len(here)] == here]:
            del kept[old]
        kept.update({path: place for path, place in places.items() if path[: len(here)] == here})
        return value
    kept[here] = places.get(here, kept.get(here, places[here]))
    entries = dict(base)
    for key, item in value.items():
        below = (*here, key)
        if key in base:
            entries[key] = _over(base[key], below, item, kept, places)
        else:
            entries[key] = item
            kept.update({path: place for path, place in places.items() if path[: len(below)] == below})
    return entries


def _no_mapping(where: Location, what: str, tree: Any) -> ConfigError:
    return ConfigError([Problem(where, f"{what} must be a mapping (`key: value` lines), but is {given(tree)}")])


def _missing(path: Path) -> str:
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"there is no file `{shown(path)}`, nor its folder {folder}"
    files = sorted(item.name for item in folder.iterdir() if item.suffix in (".yaml", ".yml", path.suffix))
    return f"there is no file `{path.name}` in {folder}. {choices(path.name, files)}"
