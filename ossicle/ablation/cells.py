"""Check the cells of an ablation and find the stages that are already made, without torch.

Notable choices:

- A problem that all variants have is reported once.
- Stages are counted by their content keys, so a stage that several cells share counts once.
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
    """A cell that passed all checks.

    Attributes:
        stages: inputs first, each with its content key and the artifact of an earlier run
        subject: the encoder that is judged; empty if there is none
    """

    cell: Cell
    checked: CheckedExperiment = field(repr=False)
    stages: Sequence[LocatedStage] = field(repr=False)
    subject: str

    @cached_property
    def by_key(self) -> Mapping[str, Stage]:
        """Content key to stage, without duplicates."""
        return {str(one.key): one.stage for one in self.stages}

    def to_make(self, store: Store) -> list[str]:
        """List the keys of the stages that the store does not have."""
        return [key for key, stage in self.by_key.items() if store.find(stage.kind, key) is None]

    def trainings(self, keys: Sequence[str]) -> set[str]:
        """Select the keys of training stages, which take longest."""
        return {key for key in keys if key in self.by_key and self.by_key[key].training_config is not None}


def check_cells(study: Study, store: Store, *, prepare: bool) -> list[CheckedCell]:
    """Check every cell with its parts and corpora, and look up which stages are made.

    Args:
        prepare: whether to make corpora that are made on first use

    Raises:
        ConfigError: with every problem found, each at its location in the file
    """
    corpora = Corpora(Silent()) if prepare else _AssumedCorpora()
    loaded: dict[tuple[Path, ...], Plugins] = {}

    def load(files: Sequence[Path]) -> Plugins:
        """Load the plugins once for all cells that list the same files."""
        return loaded.get(tuple(files)) or loaded.setdefault(tuple(files), load_plugins(files))

    found: dict[Problem, list[Cell]] = {}
    checked: list[tuple[Cell, CheckedExperiment]] = []
    for cell in study.cells:
        try:
            checked.append((cell, check(cell.document, [], corpora, prepare=prepare, load=load)))
            problems = list(_comparison_problems(study, checked[-1][1], corpora))
        except ConfigError as error:
            problems = error.problems
        for problem in problems:
            found.setdefault(problem, []).append(cell)
    if found:
        problems = [_with_variants(problem, cells, study) for problem, cells in found.items()]
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


def _with_variants(problem: Problem, cells: Sequence[Cell], study: Study) -> Problem:
    """Append the names of the variants that have the problem, unless all have it."""
    names = list(dict.fromkeys(cell.variant.name for cell in cells))
    if len(names) == len(study.variants):
        return problem
    word = "variant" if len(names) == 1 else "variants"
    return Problem(problem.where, f"{problem.message} ({word} {', '.join(f'`{name}`' for name in names)})")


def _comparison_problems(study: Study, checked: CheckedExperiment, corpora: Corpora) -> Iterator[Problem]:
    """Find metrics and encoders of `compare` that the experiment does not have."""
    compare = study.config.compare
    judging = [stage for stage in checked.stages if stage.is_evaluation]
    measures = {f"{stage.tags['task']}/{stage.tags['corpus']}": _measures(stage, corpora) for stage in judging}
    allowed = [f"{question}/{measure}" for question, found in measures.items() for measure in found]
    spans = [study.document.span(("compare", "metric"))]
    spans += [study.document.span(("compare", "secondary", number)) for number in range(len(compare.secondary))]
    for span, metric in zip(spans, compare.metrics, strict=True):
        if metric not in allowed:
            yield Problem(span.value, f"no task computes `{metric}`. {choices(metric, allowed)}")
    subjects = list(dict.fromkeys(stage.tags["subject"] for stage in judging))
    if compare.encoder is not None and compare.encoder not in subjects:
        where = study.document.span(("compare", "encoder")).value
        yield Problem(where, f"no encoder `{compare.encoder}` is judged. {choices(compare.encoder, subjects)}")


def _measures(stage: Stage, corpora: Corpora) -> tuple[str, ...]:
    """List the measures by which an evaluation can be compared, or all if its labels are not known yet."""
    if not isinstance(stage, CorpusStage):
        return tuple(chain(*MEASURES.values()))
    corpus = corpora.corpus(stage.corpus)
    if not corpus.is_ready and not hasattr(corpus, "multi_label"):
        return tuple(chain(*MEASURES.values()))
    return MEASURES[corpora.manifest(stage.corpus).multi_label]


class _AssumedCorpora(KnownCorpora):
    """Known corpora, where an unknown corpus gets a placeholder fingerprint, so that cells can share its stages."""

    def fingerprint(self, choice: PartChoice) -> str:
        try:
            return super().fingerprint(choice)
        except CorpusError:
            return f"unknown {choice.plain()}"


def shared(cells: Sequence[CheckedCell]) -> Mapping[str, int]:
    """Map the key of every stage to the number of cells that need it."""
    counts: dict[str, int] = {}
    for cell in cells:
        for key in cell.by_key:
            counts[key] = counts.get(key, 0) + 1
    return counts
