"""Which labelled clips teach, and how often each comes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def label_subset(truth: npt.NDArray[np.bool_], share: float, *, seed: int) -> npt.NDArray[np.int64]:
    """Draw a share of labelled clips, of every class alike and at least one clip of each.

    Classes are served from the rarest on, and clips that an earlier class drew count for later ones (iterative
    stratification, Sechidis, Tsoumakas & Vlahavas, 2011); clips without a label are a class of their own. With one
    label a clip, each class gives round(share · clips) clips, and a larger share of the same seed holds a smaller one.

    Args:
        truth: (clips, classes) bool
        share: in (0, 1]

    Returns:
        The drawn clips' places in `truth`, ascending.
    """
    columns = np.column_stack([truth, ~truth.any(axis=1)])
    order = np.random.default_rng(seed).permutation(len(truth))
    counts = columns.sum(axis=0)
    wanted = np.where(counts > 0, np.maximum(1, np.round(share * counts)), 0).astype(int)
    taken = np.zeros(len(truth), np.bool_)
    for column in np.argsort(counts, kind="stable"):
        carries = columns[:, column]
        missing = max(0, wanted[column] - int((taken & carries).sum()))
        taken[order[(carries & ~taken)[order]][:missing]] = True
    return np.flatnonzero(taken)


def balanced_weights(truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """How often each clip should come, so that rare classes come as often as common ones.

    The sum over a clip's labels of 1 / clips with that label, as usual on AudioSet (AST, Gong et al., 2021); a clip
    without a label never comes.

    Args:
        truth: (clips, classes) bool

    Returns:
        (clips,) of sum 1.
    """
    counts = np.maximum(1, truth.sum(axis=0))
    shares = (truth / counts).sum(axis=1)
    weights: npt.NDArray[np.float64] = shares / shares.sum()
    return weights
