"""Which clips judge an encoder while it learns; importable without torch.

Notable choices: the test clips are never touched. The validation clips take their place, and a fifth of the training
clips takes that of the validation clips: of every class alike, but never the last clip that carries a class or the last
that does not. The draw is the same in every process and after every restart, and leaves the global generators alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...core.corpus import TEST, TRAIN, VALID, Manifest
from ...core.errors import CorpusError
from ..evaluation.protocols import protocols
from ..evaluation.subsets import label_subset

CHOOSING_SHARE = 0.2
_ONE_OF_EACH = 1e-9
_SEED = 0


def watch_problems(manifest: Manifest) -> list[str]:
    """Say why an encoder that learns cannot be judged by a corpus, as far as its labels and splits tell."""
    counts = manifest.labels.counts
    if not manifest.label_names or not all(counts[manifest.rows_in(split)].any() for split in (TRAIN, VALID)):
        return ["needs a corpus with labelled `train` and `valid` clips, and this one has none: leave `watch` out"]
    try:
        protocols(without_test(manifest))
    except CorpusError as error:
        roles = "the `valid` clips stand for the `test` clips, and some `train` clips for the `valid` clips"
        return [f"cannot judge by this corpus, where {roles}: {error}"]
    return []


def without_test(manifest: Manifest) -> Manifest:
    """Let validation clips stand for the test clips, and some training clips for them.

    Test clips lose their split; so do clips without a label, where each should have one.
    """
    splits = manifest.splits.astype("<U10").copy()
    splits[manifest.splits == TEST] = ""
    splits[manifest.splits == VALID] = TEST
    if not manifest.multi_label:
        splits[manifest.labels.counts == 0] = ""
    train = np.flatnonzero(splits == TRAIN)
    splits[train[_set_aside(manifest.labels.truth(train, len(manifest.label_names)))]] = VALID
    return replace(manifest, splits=splits)


def _set_aside(truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Draw the training clips that settings are chosen on: (clips, classes) to their places, ascending."""
    teaching = label_subset(np.hstack([truth, ~truth]), _ONE_OF_EACH, seed=_SEED)
    rest = np.setdiff1d(np.arange(len(truth)), teaching)
    return rest[label_subset(truth[rest], CHOOSING_SHARE, seed=_SEED)]
