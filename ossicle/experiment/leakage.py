"""Whether labels that encoders are cross-validated on have taught them, by way of their teachers. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..core.choices import PartChoice
from ..core.corpora import Corpora
from ..core.corpus import Manifest
from ..core.stages import CorpusStage, Stage
from ..tasks.evaluation.folds import folds_of
from .stage_order import with_inputs


def leaks(stages: Sequence[Stage], corpora: Corpora) -> Iterator[str]:
    """Say which teachers learn labels that the encoders which they shape are cross-validated on.

    Args:
        stages: of an experiment, inputs first
    """
    told: set[tuple[str, str]] = set()
    for stage in stages:
        if not (stage.is_evaluation and isinstance(stage, CorpusStage) and _has_folds(stage.corpus, corpora)):
            continue
        corpus = stage.tags["corpus"]
        for earlier in with_inputs(stages, [stage.name]):
            if (earlier.name, corpus) in told or not (earlier.learns_labels and isinstance(earlier, CorpusStage)):
                continue
            if _share_clips(earlier.corpus, stage.corpus, corpora):
                told.add((earlier.name, corpus))
                yield (
                    f"`{earlier.name}` learns labels of all folds of `{corpus}`, on which `{stage.name}` is "
                    "cross-validated: it would be scored on what has taught its teacher. Fine-tune the teacher on "
                    "another `corpus`, or give this one a `test` split"
                )


def _has_folds(choice: PartChoice, corpora: Corpora) -> bool:
    return corpora.corpus(choice).is_ready and bool(folds_of(corpora.manifest(choice)))


def _share_clips(one: PartChoice, other: PartChoice, corpora: Corpora) -> bool:
    """Whether two corpora have labelled recordings in common, as far as that can be told before they are made."""
    if one == other:
        return True
    ready = all(corpora.corpus(choice).is_ready for choice in (one, other))
    return ready and not _labelled(corpora.manifest(one)).isdisjoint(_labelled(corpora.manifest(other)))


def _labelled(manifest: Manifest) -> set[int | str]:
    """What tells the labelled recordings apart: their contents, or where they lie."""
    rows = manifest.labels.counts > 0
    if manifest.contents.any():
        return set(manifest.contents[rows].tolist()) - {0}
    return {f"{manifest.root}/{path}" for path in manifest.paths[rows].tolist()}
