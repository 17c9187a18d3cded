"""Metrics of classification on labelled clips. `bootstrap` computes their intervals.

Notable choices:

- The metric of single-label corpora is accuracy. The unweighted average recall (UAR) is reported with it.
- The metric of multi-label corpora is mean average precision (mAP). The mean area under the ROC curve (mAUC) and d′ are
  reported with it.
"""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.metrics import accuracy_score, average_precision_score, recall_score, roc_auc_score

from ...core.errors import CorpusError

Truth = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.floating]


def metric_name(*, multi_label: bool) -> str:
    """Return the name of the metric of a corpus: `mAP` or `accuracy`."""
    return "mAP" if multi_label else "accuracy"


def figure(truth: Truth, scores: Scores, *, multi_label: bool) -> float:
    """Compute the metric of the corpus.

    Args:
        truth: (clips, classes) bool
        scores: (clips, classes), higher is likelier
    """
    return mean_average_precision(truth, scores)[0] if multi_label else accuracy(truth, scores)


def accuracy(truth: Truth, scores: Scores) -> float:
    """Compute the share of clips whose class has the highest score.

    Args:
        truth: (clips, classes) bool, one True a row
        scores: (clips, classes), higher is likelier
    """
    return float(accuracy_score(truth.argmax(axis=1), scores.argmax(axis=1)))


def mean_average_precision(truth: Truth, scores: Scores) -> tuple[float, int]:
    """Compute the mean average precision over classes, and the number of classes without a positive clip.

    The mean leaves out classes without a positive clip.

    Args:
        truth: (clips, classes) bool
        scores: (clips, classes), higher is likelier

    Raises:
        CorpusError: if no clip has a label
    """
    present = truth.any(axis=0)
    if not present.any():
        raise CorpusError("mean average precision needs a clip that carries a label, but none does; add labelled clips")
    value = average_precision_score(truth[:, present], scores[:, present], average="macro")
    # scikit-learn's sum of recall steps can exceed 1 by a rounding error.
    return min(float(value), 1.0), int((~present).sum())


def unweighted_average_recall(truth: Truth, scores: Scores) -> float:
    """Compute the mean recall over the classes that occur (UAR; Schuller et al., 2009).

    Args:
        truth: (clips, classes) bool, one True a row
        scores: (clips, classes), higher is likelier
    """
    actual = truth.argmax(axis=1)
    return float(recall_score(actual, scores.argmax(axis=1), labels=np.unique(actual), average="macro"))


def mean_area_under_roc(truth: Truth, scores: Scores) -> float:
    """Compute the mean area under the ROC curve over classes that some clips have and others do not.

    Args:
        truth: (clips, classes) bool
        scores: (clips, classes), higher is likelier

    Returns:
        The mean, or NaN if there is no such class.
    """
    defined = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    if not defined.size:
        return math.nan
    return fmean(roc_auc_score(truth[:, column], scores[:, column]) for column in defined)


def d_prime(area: float) -> float:
    """Compute d′, the distance in standard deviations of two normal distributions whose ROC curve has this area.

    √2 · Φ⁻¹(area) (Hershey et al., 2017, arXiv 1609.09430). Infinite for an area of 1.
    """
    return float(math.sqrt(2) * norm.ppf(area))


def other_figures(truth: Truth, scores: Scores, *, multi_label: bool) -> dict[str, float]:
    """Compute the additional metrics of a corpus. Metrics that are undefined or infinite are left out."""
    if multi_label:
        area = mean_area_under_roc(truth, scores)
        found = {"mAUC": area, "d_prime": d_prime(area)}
    else:
        found = {"UAR": unweighted_average_recall(truth, scores)}
    return {name: value for name, value in found.items() if math.isfinite(value)}
