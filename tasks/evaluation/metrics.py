"""Figures on labelled clips and their bootstrap intervals.

Notable choices: intervals are bias-corrected and accelerated (BCa), for average precision is biased upwards on few
clips and a plain percentile interval doubles that bias; where BCa is undefined, as when every clip is right, the
percentile interval stands in. Single-label corpora are judged by accuracy, with the unweighted average recall (UAR)
beside it; multi-label ones by mean average precision, whose clips are drawn jointly with all their labels, with the
mean area under the ROC curve (mAUC) and d′ beside it. Training, and the choice of settings, are taken as given: the
interval says how far the figure hangs on the test clips.
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
    """The metric that a corpus is judged by: `mAP` or `accuracy`."""
    return "mAP" if multi_label else "accuracy"


def figure(truth: Truth, scores: Scores, *, multi_label: bool) -> float:
    """Compute the metric of the corpus.

    Args:
        truth: (clips, classes) bool
        scores: (clips, classes), higher is likelier
    """
    return mean_average_precision(truth, scores)[0] if multi_label else accuracy(truth, scores)


def accuracy(truth: Truth, scores: Scores) -> float:
    """Share of clips whose highest score is at their class.

    Args:
        truth: (clips, classes) bool, one True a row
        scores: (clips, classes), higher is likelier
    """
    return float(accuracy_score(truth.argmax(axis=1), scores.argmax(axis=1)))


def mean_average_precision(truth: Truth, scores: Scores) -> tuple[float, int]:
    """Mean over classes of the average precision, and the number of classes left out for want of a positive clip.

    Args:
        truth: (clips, classes) bool
        scores: (clips, classes), higher is likelier

    Raises:
        CorpusError: if no clip carries any class
    """
    present = truth.any(axis=0)
    if not present.any():
        raise CorpusError("mean average precision needs a clip that carries a label, but none does; add labelled clips")
    value = average_precision_score(truth[:, present], scores[:, present], average="macro")
    # scikit-learn's sum of recall steps can end an ulp above 1.
    return min(float(value), 1.0), int((~present).sum())


def unweighted_average_recall(truth: Truth, scores: Scores) -> float:
    """Mean over the classes that occur of the share of their clips that are found (Schuller et al., 2009).

    Args:
        truth: (clips, classes) bool, one True a row
        scores: (clips, classes), higher is likelier
    """
    actual = truth.argmax(axis=1)
    return float(recall_score(actual, scores.argmax(axis=1), labels=np.unique(actual), average="macro"))


def mean_area_under_roc(truth: Truth, scores: Scores) -> float:
    """Mean over classes of the area under the ROC curve; classes that no clip or every clip carries are left out.

    Args:
        truth: (clips, classes) bool
        scores: (clips, classes), higher is likelier

    Returns:
        The mean, or NaN if no class is left.
    """
    told = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    return fmean(roc_auc_score(truth[:, column], scores[:, column]) for column in told) if told.size else math.nan


def d_prime(area: float) -> float:
    """How many standard deviations apart two normal distributions lie whose ROC curve has this area.

    √2 · Φ⁻¹(area) (Hershey et al., 2017, arXiv 1609.09430); infinite for an area of 1.
    """
    return float(math.sqrt(2) * norm.ppf(area))


def other_figures(truth: Truth, scores: Scores, *, multi_label: bool) -> dict[str, float]:
    """The metrics beside the one that the corpus is judged by, as far as they are defined and finite."""
    if multi_label:
        area = mean_area_under_roc(truth, scores)
        found = {"mAUC": area, "d_prime": d_prime(area)}
    else:
        found = {"UAR": unweighted_average_recall(truth, scores)}
    return {name: value for name, value in found.items() if math.isfinite(value)}
