"""Load a typed `Experiment` from a YAML file.

Notable choices:

- The plugins that a file names are loaded before the rest is read, because they offer parts.
- All problems of a file are raised at once, in the order of its lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from ..catalog import Catalog, PluginFailure
from ..errors import ConfigError, Problem
from ..experiment import Experiment
from ..plugin_loading import PluginFileError
from ..wording import NodePath, choices
from .documents import Document, load_document, override, resolve_base, to_yaml
from .validation import in_reading_order, problems_of

CatalogFor: TypeAlias = Callable[[Sequence[Path]], Catalog]
"""From plugin files to the catalog that holds their parts and all installed ones."""


@dataclass(frozen=True)
class ResolvedExperiment:
    """A valid experiment, the document it was read from and the catalog that its parts come from."""

    experiment: Experiment
    document: Document
    catalog: Catalog

    def problem(self, path: NodePath, message: str) -> Problem:
        """Return a problem with the value at a path, located where the value was written."""
        return Problem(self.document.span(path).value, message)


def load_experiment(
    source: Path | Document, *, overrides: Sequence[str] = (), catalog_for: CatalogFor
) -> ResolvedExperiment:
    """Read an experiment from a YAML file, or from a document whose bases are resolved.

    Args:
        overrides: `dotted.path=VALUE`, applied to the file in this order

    Raises:
        ConfigError: with every problem of the file and the overrides
    """
    document = source if isinstance(source, Document) else resolve_base(load_document(source))
    problems: list[Problem] = []
    for text in overrides:
        try:
            document = override(document, text)
        except ConfigError as error:
            problems += error.problems
    return resolve_document(document, catalog_for=catalog_for, problems=problems)


def resolve_document(
    document: Document, *, catalog_for: CatalogFor, problems: Sequence[Problem] = ()
) -> ResolvedExperiment:
    """Read an experiment from a document whose bases are resolved.

    Args:
        problems: known problems, which are raised together with new ones

    Raises:
        ConfigError: with every problem
    """
    catalog, found = _catalog(document, catalog_for)
    try:
        experiment = Experiment.model_validate_json(json.dumps(document.tree), context={"catalog": catalog})
    except ValidationError as error:
        found += problems_of(error, Experiment, document, catalog)
    found = [*problems, *found]
    if found:
        raise ConfigError(in_reading_order(found, document.source))
    return ResolvedExperiment(experiment, document, catalog)


def resolved_yaml(experiment: Experiment) -> str:
    """Return the experiment as YAML with every default written out. Reading it gives the same experiment."""
    return to_yaml(experiment.model_dump(mode="json"))


def _catalog(document: Document, catalog_for: CatalogFor) -> tuple[Catalog, list[Problem]]:
    """Load the plugins that a document names. Those that fail become problems, and the others stay loaded."""
    stated = document.tree.get("plugins")
    texts = stated if isinstance(stated, list) else []
    faults = {index: _plugin_fault(text) for index, text in enumerate(texts) if isinstance(text, str)}
    failures: list[PluginFailure] = []
    while True:
        sound = {Path(texts[index]): index for index, fault in faults.items() if not fault}
        try:
            catalog = catalog_for(list(sound))
            break
        except PluginFileError as error:
            faults[sound[error.path]] = str(error)
            failures.append(PluginFailure(error.path.name, str(error)))
    problems = [Problem(document.span(("plugins", index)).value, fault) for index, fault in faults.items() if fault]
    return (replace(catalog, failures=[*catalog.failures, *failures]) if failures else catalog), problems


def _plugin_fault(text: str) -> str:
    path = Path(text)
    if not path.is_absolute():
        return f"a plugin must be a file, written `./{text}` if it is next to this one; do not list installed plugins"
    if path.is_file():
        return ""
    beside = sorted(item.name for item in path.parent.glob("*.py"))
    return f"there is no plugin file `{path.name}` in {path.parent}. {choices(path.name, beside)}"
