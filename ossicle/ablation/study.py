"""Expand the YAML of an ablation into cells: an experiment for every variant and seed. Needs no torch.

Notable choices:

- A variant is a patch that is merged into the base by the rules of `core.config_files.nodes`, so every cell is an
  experiment that a user could have written by hand.
- Names of cells are valid and unique folder names.
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
"""Separator between the names of the values of a variant."""
CONTROL = "control"
SEED = "seed"
_NOT_PATCHED = {
    "name": "a cell is named after its variant and its seed",
    "seed": "list the seeds in `seeds`",
    "base": "all variants share one base; set the fields that differ",
}
_OVER_THE_STUDY = ("name", "vary", "seeds", "only", "except", "compare", "launcher")


@dataclass(frozen=True)
class Value:
    """A named point on an axis.

    Attributes:
        patch: pairs of a dotted path and the node to merge into the base there
        control: whether it makes a variant a control
        span: location in the file
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
        patch: pairs of a dotted path and the node to merge into the base there, in order
        document: the base with the patch applied
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
        name: name of its folder
    """

    variant: Variant
    seed: int
    name: str

    @property
    def title(self) -> str:
        """The name that is shown to users."""
        return f"{self.variant.name}, seed {self.seed}"

    @property
    def document(self) -> Document:
        """The experiment of this cell."""
        span = self.variant.document.root.span
        own = {"name": Node(self.name, span), SEED: Node(self.seed, span)}
        return merge(self.variant.document, Document(Node(own, span), self.variant.document.source))


@dataclass(frozen=True)
class Study:
    """An ablation whose YAML is valid. `check_cells` checks the experiments of its cells.

    Attributes:
        document: the YAML of the ablation
        base: the experiment that is varied
        axes: axis to the names of its values
        variants: the variants that have a cell
        cells: in the order of the file; the seed varies fastest
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
        overrides: `dotted.path=VALUE`; applied to the ablation if the path starts with one of its keys, such as
            `seeds`, else to the base of all variants
        catalog: the installed parts

    Raises:
        ConfigError: with every problem of the file and the overrides; `check_cells` finds those of the cells
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
    used = {cell.variant.name: cell.variant for cell in cells}
    problems += _misfits(config, document, used)
    if problems:
        raise ConfigError(in_reading_order(problems, document.source))
    names = {axis: [value.name for value in values] for axis, values in axes.items()}
    return Study(config, document, base, names, list(used.values()), cells)


def _first(text: str) -> str:
    return re.split(r"[.=]", text.strip(), maxsplit=1)[0]


def _named(document: Document, path: Path) -> Document:
    """Use the name of the file as the default of `name`."""
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
    """Load the experiment that is varied and apply the overrides of the command line."""
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
    problems += [Problem(f"override '{text}'", "list the seeds instead: `seeds=[0, 1]`") for text in seeds]
    return _overridden(base, [text for text in overrides if text not in seeds], problems)


def _axes(document: Document, problems: list[Problem]) -> Iterator[tuple[str, list[Value]]]:
    vary = _entries(document.root).get("vary")
    for axis, node in (_entries(vary) if vary else {}).items():
        where = node.span.value
        if axis == SEED:
            problems.append(Problem(node.span.key, f"`{SEED}` is not an axis: {_NOT_PATCHED[SEED]}"))
        elif isinstance(node.value, dict) and node.value:
            yield axis, [_named_value(name, patch, problems) for name, patch in node.value.items()]
        elif isinstance(node.value, list) and node.value:
            yield axis, list(_grid(axis, node.value, problems))
        else:
            message = f"axis `{axis}` must be a mapping of variants, or a list of values if `{axis}` is a dotted path"
            problems.append(Problem(where, f"{message}, but is {given(node.value) if node.value else 'empty'}"))


def _named_value(name: str, node: Node, problems: list[Problem]) -> Value:
    entries = {} if node.value is None else node.value
    if not isinstance(entries, dict):
        message = f"variant `{name}` must be a patch (a mapping from dotted paths to values, or `{{}}`)"
        problems.append(Problem(node.span.value, f"{message}, but is {given(node.value)}"))
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
                f"a value of the grid over `{path}` must be a number, text, true, false or empty, because it names "
                f"its variant, but is {given(item.value)}; write variants by name: `NAME: {{{path}: …}}`"
            )
            problems.append(Problem(item.span.value, message))
        else:
            yield Value(value_name(item.value), [(path, item)], False, item.span)


def value_name(value: Any) -> str:
    """Name a value of a grid as it is written in YAML."""
    return value if isinstance(value, str) else json.dumps(value)


def _variants(axes: Mapping[str, Sequence[Value]], base: Document, problems: list[Problem]) -> Iterator[Variant]:
    seen: set[str] = set()
    valid = {id(value): _fits_base(base, value, problems) for values in axes.values() for value in values}
    for values in product(*axes.values()):
        name = BETWEEN.join(value.name for value in values)
        if name in seen:
            problems.append(Problem(values[-1].span.key, f"two variants have the name `{name}`; rename one of them"))
        seen.add(name)
        patch = [entry for value in values for entry in value.patch]
        document = _patched(base, patch) if all(valid[id(value)] for value in values) else base
        named = {axis: value.name for axis, value in zip(axes, values, strict=True)}
        yield Variant(name, named, any(value.control for value in values), patch, document)


def _fits_base(base: Document, value: Value, problems: list[Problem]) -> bool:
    """Check that the patch of a value applies to the base. Its problems are reported once, not per combination."""
    try:
        _patched(base, value.patch)
    except ConfigError as error:
        problems += error.problems
        return False
    return True


def _patched(base: Document, patch: Sequence[tuple[str, Node]]) -> Document:
    def apply(document: Document, entry: tuple[str, Node]) -> Document:
        path, node = entry
        return apply_patch(document, Document(Node({path: node}, node.span), document.source))

    return reduce(apply, patch, base)


def _cells(
    variants: Sequence[Variant],
    config: StudyConfig,
    document: Document,
    axes: Mapping[str, Sequence[Value]],
    problems: list[Problem],
) -> Iterator[Cell]:
    """Yield the combinations that pass the filters."""
    allowed = {axis: [value.name for value in values] for axis, values in axes.items()}
    allowed[SEED] = [str(seed) for seed in config.seeds]
    only = list(_filters(config.only, "only", allowed, document, problems))
    without = list(_filters(config.except_, "except", allowed, document, problems))
    folders: set[str] = set()
    for variant in variants:
        slug = _unique(folder_name(variant.name), folders)
        for seed in config.seeds:
            values = {**variant.values, SEED: str(seed)}
            if (not only or _fits(values, only)) and not _fits(values, without):
                yield Cell(variant, seed, f"{slug}-seed{seed}")


ValueNames = Mapping[str, Sequence[str]]
"""Axis to names of its values."""


def _filters(
    stated: Sequence[Mapping[str, Any]], key: str, allowed: ValueNames, document: Document, problems: list[Problem]
) -> Iterator[ValueNames]:
    for number, entry in enumerate(stated):
        by_axis = {}
        for axis, given_values in entry.items():
            where = document.span((key, number, axis))
            names = [
                value_name(value) for value in (given_values if isinstance(given_values, list) else [given_values])
            ]
            by_axis[axis] = names
            if axis not in allowed:
                problems.append(Problem(where.key, f"there is no axis `{axis}`. {choices(axis, allowed)}"))
                continue
            problems += [
                Problem(where.value, f"axis `{axis}` has no `{name}`. {choices(name, allowed[axis])}")
                for name in names
                if name not in allowed[axis]
            ]
        yield by_axis


def _fits(values: Mapping[str, str], filters: Sequence[ValueNames]) -> bool:
    return any(all(values.get(axis) in names for axis, names in one.items()) for one in filters)


def _misfits(config: StudyConfig, document: Document, variants: Mapping[str, Variant]) -> Iterator[Problem]:
    if not variants:
        key = "only" if config.only else "except"
        yield Problem(document.span((key,)).value, "no cell passes the filters; loosen them")
    elif config.compare.baseline not in variants:
        baseline = config.compare.baseline
        where = document.span(("compare", "baseline")).value
        yield Problem(where, f"there is no variant `{baseline}`. {choices(baseline, variants)}")


def folder_name(name: str) -> str:
    """Replace the characters that are not safe in folder names.

    >>> folder_name("best-rq, K = 512")
    'best-rq-K-512'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-._")[:80] or "variant"


def _unique(name: str, taken: set[str]) -> str:
    """Append a number if the name is taken. The comparison ignores case, as some file systems do."""
    number, found = 1, name
    while found.casefold() in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found.casefold())
    return found


def _entries(node: Node) -> Mapping[str, Node]:
    return node.value if isinstance(node.value, dict) else {}
