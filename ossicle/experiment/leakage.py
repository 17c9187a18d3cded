"""Detect label leakage: teachers that learn labels which their students must not have. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..audio.corpus_overview import Overviews
from ..core.choices import PartChoice
from ..core.corpora import Corpora
from ..core.stages import CorpusStage, Stage
from ..tasks.evaluation.folds import folds_of
from ..tasks.stages.fine_tune_config import FineTuningConfig
from .stage_order import with_inputs

if TYPE_CHECKING:
    from ..core.manifest import Manifest


def leaks(stages: Sequence[Stage], overviews: Overviews) -> Iterator[str]:
    """Describe each teacher that learns labels of the test folds, or more labels than its students are evaluated with.

    Args:
        stages: stages of an experiment, inputs first
    """
    reported: set[tuple[str, str]] = set()
    for stage in stages:
        if not (stage.is_evaluation and isinstance(stage, CorpusStage)):
            continue
        has_folds, corpus = _has_folds(stage.corpus, overviews), stage.tags["corpus"]
        for earlier in with_inputs(stages, [stage.name]):
            if (earlier.name, corpus) in reported or not (earlier.learns_labels and isinstance(earlier, CorpusStage)):
                continue
            more_labels = _label_share(earlier) > _label_share(stage)
            if not (has_folds or more_labels) or not _share_clips(earlier.corpus, stage.corpus, overviews.corpora):
                continue
            reported.add((earlier.name, corpus))
            if has_folds:
                yield (
                    f"`{earlier.name}` learns labels of all folds of `{corpus}`, on which `{stage.name}` is "
                    "cross-validated: the teacher would be trained on the test folds. Fine-tune the teacher on "
                    "another `corpus`, or give this one a `test` split"
                )
            else:
                yield (
                    f"`{earlier.name}` learns {100 * _label_share(earlier):.3g} % of the labels of `{corpus}`, but "
                    f"`{stage.name}` evaluates its student with {100 * _label_share(stage):.3g} %: the student would "
                    f"know the other labels through its teacher. Set `label_share: {_label_share(stage):g}` in the "
                    "`fine_tune` of the teacher"
                )


def _label_share(stage: Stage) -> float:
    """The share of the training labels that a stage learns from. Probes use all."""
    training = stage.training_config
    return training.label_share if isinstance(training, FineTuningConfig) else 1.0


def _has_folds(choice: PartChoice, overviews: Overviews) -> bool:
    return overviews.corpora.corpus(choice).is_ready and bool(folds_of(overviews.of(choice)))


def _share_clips(one: PartChoice, other: PartChoice, corpora: Corpora) -> bool:
    """Whether two corpora have labelled recordings in common. False if a corpus is not made yet."""
    if one == other:
        return True
    ready = all(corpora.corpus(choice).is_ready for choice in (one, other))
    return ready and not _labelled(corpora.manifest(one)).isdisjoint(_labelled(corpora.manifest(other)))


def _labelled(manifest: Manifest) -> set[int | str]:
    """Identify the labelled recordings, by their contents or by their paths."""
    rows = manifest.labels.counts > 0
    if manifest.contents.any():
        return set(manifest.contents[rows].tolist()) - {0}
    return {f"{manifest.root}/{path}" for path in manifest.paths[rows].tolist()}
