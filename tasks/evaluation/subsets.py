"""Choose training clips from the labelled clips, and how often each is drawn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def label_subset(truth: npt.NDArray[np.bool_], share: float, *, seed: int) -> npt.NDArray[np.int64]:
    """Draw the same share of clips from every class, and at least one clip from each.

    Clips are drawn for the rarest class first, and count for the later classes that they have as well (iterative
    stratification, Sechidis, Tsoumakas & Vlahavas, 2011). Clips without a label form a separate class. With one label
    per clip, round(share · clips) clips of each class are drawn, and with one seed a larger share contains a smaller
    one.

    Args:
        truth: (clips, classes) bool
        share: in (0, 1]

    Returns:
        The indices of the drawn clips in `truth`, ascending.
    """
    columns = np.column_stack([truth, ~truth.any(axis=1)])
    order = np.random.default_rng(seed).permutation(len(truth))
    counts = columns.sum(axis=0)
    quota = np.where(counts > 0, np.maximum(1, np.round(share * counts)), 0).astype(int)
    taken = np.zeros(len(truth), np.bool_)
    for column in np.argsort(counts, kind="stable"):
        carries = columns[:, column]
        missing = max(0, quota[column] - int((taken & carries).sum()))
        taken[order[(carries & ~taken)[order]][:missing]] = True
    return np.flatnonzero(taken)


def balanced_weights(truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Compute sampling weights of clips that give all classes the same frequency.

    The weight of a clip is the sum over its labels of 1 / clips with that label, as usual on AudioSet (AST, Gong et
    al., 2021). A clip without a label is never drawn.

    Args:
        truth: (clips, classes) bool

    Returns:
        The weights, (clips,), which sum to 1.
    """
    counts = np.maximum(1, truth.sum(axis=0))
    shares = (truth / counts).sum(axis=1)
    weights: npt.NDArray[np.float64] = shares / shares.sum()
    return weights
