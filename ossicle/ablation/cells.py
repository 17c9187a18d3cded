"""The cells of an ablation held against their parts and corpora, and what of them is made already. Needs no torch.

Notable choices: what is wrong with all cells alike is told once; stages are counted by their content keys, so that what
several cells share counts as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

from ..core.choices import PartChoice
from ..core.config_files.validation import in_reading_order
from ..core.corpora import Corpora
from ..core.display import Silent
from ..core.errors import ConfigError, CorpusError, Problem
from ..core.plugin_loading import Plugins, load_plugins
from ..core.stages import CorpusStage, Stage
from ..core.store import Store
from ..core.wording import choices
from ..experiment.check import CheckedExperiment, check
from ..planning.locate import KnownCorpora, LocatedStage, located
from .ablation_config import MEASURES
from .judging import judged, roles_in
from .study import Cell, Study


@dataclass(frozen=True)
class CheckedCell:
    """A cell in which nothing was found wrong.

    Attributes:
        stages: inputs first, each with its content key and what an earlier run made
        subject: the encoder that is judged; empty where there is none
    """

    cell: Cell
    checked: CheckedExperiment = field(repr=False)
    stages: Sequence[LocatedStage] = field(repr=False)
    subject: str

    @cached_property
    def by_key(self) -> Mapping[str, Stage]:
        """The stages by their content keys, each once."""
        return {str(one.key): one.stage for one in self.stages}

    def to_make(self, store: Store) -> list[str]:
        """The keys of the stages that are not made."""
        return [key for key, stage in self.by_key.items() if store.find(stage.kind, key) is None]

    def trainings(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys whose stages are trained, and so take long."""
        return {key for key in keys if key in self.by_key and self.by_key[key].training_config is not None}


def check_cells(study: Study, store: Store, *, prepare: bool) -> list[CheckedCell]:
    """Hold every cell against its parts and corpora, and look up what is made.

    Args:
        prepare: whether corpora that are made on first use may be made now

    Raises:
        ConfigError: with every problem found, each at its location in the file
    """
    corpora = Corpora(Silent()) if prepare else _AssumedCorpora()
    loaded: dict[tuple[Path, ...], Plugins] = {}

    def load(files: Sequence[Path]) -> Plugins:
        """Load the plugins once for all cells that name the same files."""
        return loaded.get(tuple(files)) or loaded.setdefault(tuple(files), load_plugins(files))

    found: dict[Problem, list[Cell]] = {}
    checked: list[tuple[Cell, CheckedExperiment]] = []
    for cell in study.cells:
        try:
            checked.append((cell, check(cell.document, [], corpora, prepare=prepare, load=load)))
            problems = list(_misjudged(study, checked[-1][1], corpora))
        except ConfigError as error:
            problems = error.problems
        for problem in problems:
            found.setdefault(problem, []).append(cell)
    if found:
        problems = [_told(problem, cells, study) for problem, cells in found.items()]
        raise ConfigError(in_reading_order(problems, study.document.source))
    encoder = study.config.compare.encoder
    return [
        CheckedCell(
            cell,
            one,
            list(located(one.stages, store, corpora, one.plugins.catalog)),
            judged(roles_in(one.stages), encoder),
        )
        for cell, one in checked
    ]


def _told(problem: Problem, cells: Sequence[Cell], study: Study) -> Problem:
    """A problem with the variants that have it, unless all do."""
    names = list(dict.fromkeys(cell.variant.name for cell in cells))
    if len(names) == len(study.variants):
        return problem
    word = "variant" if len(names) == 1 else "variants"
    return Problem(problem.where, f"{problem.message} ({word} {', '.join(f'`{name}`' for name in names)})")


def _misjudged(study: Study, checked: CheckedExperiment, corpora: Corpora) -> Iterator[Problem]:
    """Metrics and encoders of the comparison that an experiment does not have."""
    compare = study.config.compare
    judging = [stage for stage in checked.stages if stage.is_evaluation]
    measures = {f"{stage.tags['task']}/{stage.tags['corpus']}": _measures(stage, corpora) for stage in judging}
    allowed = [f"{question}/{measure}" for question, found in measures.items() for measure in found]
    spans = [study.document.span(("compare", "metric"))]
    spans += [study.document.span(("compare", "secondary", number)) for number in range(len(compare.secondary))]
    for span, metric in zip(spans, compare.metrics, strict=True):
        if metric not in allowed:
            yield Problem(span.value, f"no task gives `{metric}`. {choices(metric, allowed)}")
    subjects = list(dict.fromkeys(stage.tags["subject"] for stage in judging))
    if compare.encoder is not None and compare.encoder not in subjects:
        where = study.document.span(("compare", "encoder")).value
        yield Problem(where, f"no encoder `{compare.encoder}` is judged. {choices(compare.encoder, subjects)}")


def _measures(stage: Stage, corpora: Corpora) -> tuple[str, ...]:
    """The measures that variants may be compared by where a stage judges; all where its labels are not known yet."""
    if not isinstance(stage, CorpusStage):
        return tuple(chain(*MEASURES.values()))
    corpus = corpora.corpus(stage.corpus)
    if not corpus.is_ready and not hasattr(corpus, "multi_label"):
        return tuple(chain(*MEASURES.values()))
    return MEASURES[corpora.manifest(stage.corpus).multi_label]


class _AssumedCorpora(KnownCorpora):
    """As those known, but cells of one study share what they would make of an unknown corpus, too."""

    def fingerprint(self, choice: PartChoice) -> str:
        try:
            return super().fingerprint(choice)
        except CorpusError:
            return f"unknown {choice.plain()}"


def shared(cells: Sequence[CheckedCell]) -> Mapping[str, int]:
    """The key of every stage to the number of cells that need it."""
    counts: dict[str, int] = {}
    for cell in cells:
        for key in cell.by_key:
            counts[key] = counts.get(key, 0) + 1
    return counts
