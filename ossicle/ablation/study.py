"""From an ablation's YAML to its cells: every variant with every seed, each an experiment of its own. Needs no torch.

Notable choices: a variant is a patch on the base, laid over it by the rules of `core.config_files.nodes`, so that a
cell is no more than an experiment which could have been written by hand; names of cells are made fit for folders, and
stay different.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.catalog import Catalog
from ..core.config_files.documents import Document, apply_patch, load_document, merge, override, resolve_base, to_yaml
from ..core.config_files.nodes import Node, Span
from ..core.config_files.validation import in_reading_order, problems_of
from ..core.errors import ConfigError, Problem
from ..core.wording import choices, given
from .ablation_config import StudyConfig

BETWEEN = ", "
"""Stands between the names of a variant's values."""
CONTROL = "control"
SEED = "seed"
_NOT_PATCHED = {
    "name": "a cell is named after its variant and its seed",
    "seed": "list the seeds in `seeds`",
    "base": "a patch is laid over the one base of all; name what differs",
}
_OVER_THE_STUDY = ("name", "vary", "seeds", "only", "except", "compare", "launcher")


@dataclass(frozen=True)
class Value:
    """A named point on an axis.

    Attributes:
        patch: dotted path to what is laid over the base there
        control: whether it makes a control
        span: where it was written
    """

    name: str
    patch: Sequence[tuple[str, Node]]
    control: bool
    span: Span


@dataclass(frozen=True)
class Variant:
    """A combination of values, one of each axis.

    Attributes:
        values: axis to the name of its value
        patch: dotted path to what is laid over the base there, in order
        document: the base with the patch laid over it
    """

    name: str
    values: Mapping[str, str]
    control: bool
    patch: Sequence[tuple[str, Node]] = field(repr=False)
    document: Document = field(repr=False, compare=False)

    @property
    def overrides(self) -> list[str]:
        """The patch as `dotted.path=VALUE`, for `ossicle run`."""
        return [f"{path}={json.dumps(node.plain(), ensure_ascii=False)}" for path, node in self.patch]


@dataclass(frozen=True)
class Cell:
    """A variant with a seed: one run.

    Attributes:
        name: names its folder
    """

    variant: Variant
    seed: int
    name: str

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.variant.name}, seed {self.seed}"

    @property
    def document(self) -> Document:
        """The experiment."""
        span = self.variant.document.root.span
        own = {"name": Node(self.name, span), SEED: Node(self.seed, span)}
        return merge(self.variant.document, Document(Node(own, span), self.variant.document.source))


@dataclass(frozen=True)
class Study:
    """An ablation that can be run as written, as far as its own YAML goes.

    Attributes:
        document: the ablation's YAML
        base: the experiment that is varied
        axes: axis to the names of its values
        variants: those that have a cell
        cells: in the order of the file, seeds varying fastest
    """

    config: StudyConfig
    document: Document
    base: Document
    axes: Mapping[str, Sequence[str]]
    variants: Sequence[Variant]
    cells: Sequence[Cell]

    @property
    def base_text(self) -> str:
        """The base as YAML, without defaults."""
        return to_yaml(self.base.tree)


def load_study(path: Path, *, overrides: Sequence[str] = (), catalog: Catalog) -> Study:
    """Read an ablation from a YAML file.

    Args:
        overrides: `dotted.path=VALUE`; laid over the ablation where the path starts with a key of its own, such as
            `seeds`, else over the base of all variants
        catalog: the installed parts

    Raises:
        ConfigError: with every problem of the file and the overrides; those of the cells are left to `check_cells`
    """
    document = load_document(path)
    problems: list[Problem] = []
    own = [text for text in overrides if _first(text) in _OVER_THE_STUDY]
    document = _overridden(_named(document, path), own, problems)
    config = _config(document, catalog, problems)
    base = _base(document, [text for text in overrides if text not in own], problems)
    axes = dict(_axes(document, problems))
    if config is None or base is None or problems:
        raise ConfigError(in_reading_order(problems, document.source))
    variants = list(_variants(axes, base, problems))
    cells = list(_cells(variants, config, document, axes, problems))
    kept = {cell.variant.name: cell.variant for cell in cells}
    problems += _misfits(config, document, kept)
    if problems:
        raise ConfigError(in_reading_order(problems, document.source))
    names = {axis: [value.name for value in values] for axis, values in axes.items()}
    return Study(config, document, base, names, list(kept.values()), cells)


def _first(text: str) -> str:
    return re.split(r"[.=]", text.strip(), maxsplit=1)[0]


def _named(document: Document, path: Path) -> Document:
    """The ablation with the file's name where it has none."""
    span = document.root.span
    stem = folder_name(path.stem)
    return merge(Document(Node({"name": Node(stem, span)}, span), document.source), document)


def _overridden(document: Document, texts: Sequence[str], problems: list[Problem]) -> Document:
    for text in texts:
        try:
            document = override(document, text)
        except ConfigError as error:
            problems += error.problems
    return document


def _config(document: Document, catalog: Catalog, problems: list[Problem]) -> StudyConfig | None:
    try:
        return StudyConfig.model_validate_json(json.dumps(document.tree), context={"catalog": catalog})
    except ValidationError as error:
        problems += problems_of(error, StudyConfig, document, catalog)
        return None


def _base(document: Document, overrides: Sequence[str], problems: list[Problem]) -> Document | None:
    """The experiment that is varied, with the command line's overrides laid over it."""
    stated = _entries(document.root).get("base")
    if stated is None:
        return None
    written = stated if isinstance(stated.value, dict) else Node({"base": stated}, document.root.span)
    try:
        base = resolve_base(Document(written, document.source, document.file))
    except ConfigError as error:
        problems += error.problems
        return None
    seeds = [text for text in overrides if _first(text) == SEED]
    problems += [Problem(f"override '{text}'", "seeds are listed: `seeds=[0, 1]`") for text in seeds]
    return _overridden(base, [text for text in overrides if text not in seeds], problems)


def _axes(document: Document, problems: list[Problem]) -> Iterator[tuple[str, list[Value]]]:
    vary = _entries(document.root).get("vary")
    for axis, node in (_entries(vary) if vary else {}).items():
        where = node.span.value
        if axis == SEED:
            problems.append(Problem(node.span.key, f"`{SEED}` is no axis: {_NOT_PATCHED[SEED]}"))
        elif isinstance(node.value, dict) and node.value:
            yield axis, [_named_value(name, patch, problems) for name, patch in node.value.items()]
        elif isinstance(node.value, list) and node.value:
            yield axis, list(_grid(axis, node.value, problems))
        else:
            message = f"axis `{axis}` must be variants by name, or a list of values where `{axis}` is a dotted path"
            problems.append(Problem(where, f"{message}, but is {given(node.value) if node.value else 'empty'}"))


def _named_value(name: str, node: Node, problems: list[Problem]) -> Value:
    entries = {} if node.value is None else node.value
    if not isinstance(entries, dict):
        message = f"variant `{name}` must be a patch, dotted paths to values, or `{{}}`, but is {given(node.value)}"
        problems.append(Problem(node.span.value, message))
        entries = {}
    control = entries.get(CONTROL)
    if control is not None and not isinstance(control.value, bool):
        message = f"`{CONTROL}` must be true or false, but is {given(control.value)}"
        problems.append(Problem(control.span.value, message))
    patch = [(path, below) for path, below in entries.items() if path != CONTROL]
    problems += [
        Problem(below.span.key, f"a variant cannot set `{path}`: {_NOT_PATCHED[path]}")
        for path, below in patch
        if path in _NOT_PATCHED
    ]
    return Value(name, patch, control is not None and control.value is True, node.span)


def _grid(path: str, items: Sequence[Node], problems: list[Problem]) -> Iterator[Value]:
    for item in items:
        if isinstance(item.value, dict | list):
            message = (
                f"a value of the grid over `{path}` must be a number, text, true, false or empty, for it names its "
                f"variant, but is {given(item.value)}; write variants by name: `NAME: {{{path}: …}}`"
            )
            problems.append(Problem(item.span.value, message))
        else:
            yield Value(value_name(item.value), [(path, item)], False, item.span)


def value_name(value: Any) -> str:
    """What a value of a grid is called: as it is written in YAML."""
    return value if isinstance(value, str) else json.dumps(value)


def _variants(axes: Mapping[str, Sequence[Value]], base: Document, problems: list[Problem]) -> Iterator[Variant]:
    seen: set[str] = set()
    patched = {id(value): _tried(base, value, problems) for values in axes.values() for value in values}
    for values in product(*axes.values()):
        name = BETWEEN.join(value.name for value in values)
        if name in seen:
            problems.append(Problem(values[-1].span.key, f"two variants are called `{name}`; give them other names"))
        seen.add(name)
        patch = [entry for value in values for entry in value.patch]
        sound = all(patched[id(value)] for value in values)
        document = _patched(base, patch) if sound else base
        named = {axis: value.name for axis, value in zip(axes, values, strict=True)}
        yield Variant(name, named, any(value.control for value in values), patch, document)


def _tried(base: Document, value: Value, problems: list[Problem]) -> bool:
    """Whether a value's patch fits the base; what does not is said once, not for every combination."""
    try:
        _patched(base, value.patch)
    except ConfigError as error:
        problems += error.problems
        return False
    return True


def _patched(base: Document, patch: Sequence[tuple[str, Node]]) -> Document:
    def lay(document: Document, entry: tuple[str, Node]) -> Document:
        path, node = entry
        return apply_patch(document, Document(Node({path: node}, node.span), document.source))

    return reduce(lay, patch, base)


def _cells(
    variants: Sequence[Variant],
    config: StudyConfig,
    document: Document,
    axes: Mapping[str, Sequence[Value]],
    problems: list[Problem],
) -> Iterator[Cell]:
    """Those of all combinations that the filters let through."""
    allowed = {axis: [value.name for value in values] for axis, values in axes.items()}
    allowed[SEED] = [str(seed) for seed in config.seeds]
    only = list(_filters(config.only, "only", allowed, document, problems))
    without = list(_filters(config.except_, "except", allowed, document, problems))
    folders: set[str] = set()
    for variant in variants:
        slug = _different(folder_name(variant.name), folders)
        for seed in config.seeds:
            values = {**variant.values, SEED: str(seed)}
            if (not only or _fits(values, only)) and not _fits(values, without):
                yield Cell(variant, seed, f"{slug}-seed{seed}")


Wanted = Mapping[str, Sequence[str]]


def _filters(
    stated: Sequence[Mapping[str, Any]], key: str, allowed: Wanted, document: Document, problems: list[Problem]
) -> Iterator[Wanted]:
    for number, entry in enumerate(stated):
        wanted = {}
        for axis, given_values in entry.items():
            where = document.span((key, number, axis))
            names = [
                value_name(value) for value in (given_values if isinstance(given_values, list) else [given_values])
            ]
            wanted[axis] = names
            if axis not in allowed:
                problems.append(Problem(where.key, f"there is no axis `{axis}`. {choices(axis, allowed)}"))
                continue
            problems += [
                Problem(where.value, f"axis `{axis}` has no `{name}`. {choices(name, allowed[axis])}")
                for name in names
                if name not in allowed[axis]
            ]
        yield wanted


def _fits(values: Mapping[str, str], filters: Sequence[Wanted]) -> bool:
    return any(all(values.get(axis) in names for axis, names in wanted.items()) for wanted in filters)


def _misfits(config: StudyConfig, document: Document, variants: Mapping[str, Variant]) -> Iterator[Problem]:
    if not variants:
        key = "only" if config.only else "except"
        yield Problem(document.span((key,)).value, "the filters leave no cell; loosen them")
    elif config.compare.baseline not in variants:
        baseline = config.compare.baseline
        where = document.span(("compare", "baseline")).value
        yield Problem(where, f"there is no variant `{baseline}`. {choices(baseline, variants)}")


def folder_name(name: str) -> str:
    """A name with what folders cannot be called left out.

    >>> folder_name("best-rq, K = 512")
    'best-rq-K-512'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-._")[:80] or "variant"


def _different(name: str, taken: set[str]) -> str:
    """The name, numbered if it is taken; some file systems do not tell capitals from small letters."""
    number, found = 1, name
    while found.casefold() in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found.casefold())
    return found


def _entries(node: Node) -> Mapping[str, Node]:
    return node.value if isinstance(node.value, dict) else {}
