"""The clips that evaluate an encoder while it is pre-trained. Importable without torch.

Notable choices:

- The test clips are never used. The validation clips serve as test clips, and a fifth of the training clips as
  validation clips: the same share of every class, but never the last clip with a class or the last without it.
- The draw is the same in every process and after every restart, and does not use the global generators.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...core.corpus import TEST, TRAIN, VALID
from ...core.errors import CorpusError
from ...core.manifest import Manifest
from ..evaluation.protocols import protocols
from ..evaluation.subsets import label_subset

CHOOSING_SHARE = 0.2
_ONE_OF_EACH = 1e-9
_SEED = 0


def monitor_problems(manifest: Manifest) -> list[str]:
    """Return reasons why a corpus's labels and splits do not suffice to evaluate an encoder during pre-training."""
    counts = manifest.labels.counts
    if not manifest.label_names or not all(counts[manifest.rows_in(split)].any() for split in (TRAIN, VALID)):
        return ["needs a corpus with labelled `train` and `valid` clips, and this one has none: remove `watch`"]
    try:
        protocols(without_test(manifest))
    except CorpusError as error:
        roles = "the `valid` clips serve as `test` clips, and some `train` clips as `valid` clips"
        return [f"cannot evaluate on this corpus, where {roles}: {error}"]
    return []


def without_test(manifest: Manifest) -> Manifest:
    """Use validation clips as test clips, and some training clips as validation clips.

    Test clips lose their split. So do unlabelled clips, if each clip should have one label.
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
    """Draw the training clips that become validation clips: (clips, classes) to their rows, ascending."""
    training = label_subset(np.hstack([truth, ~truth]), _ONE_OF_EACH, seed=_SEED)
    rest = np.setdiff1d(np.arange(len(truth)), training)
    return rest[label_subset(truth[rest], CHOOSING_SHARE, seed=_SEED)]
