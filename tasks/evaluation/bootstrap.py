"""Bootstrap intervals of figures on labelled clips.

Notable choices:

- Intervals are bias-corrected and accelerated (BCa), because average precision is biased upwards on few clips and a
  plain percentile interval doubles that bias.
- The percentile interval is used where BCa is undefined, for example when every clip is classified correctly.
- Clips of multi-label corpora are drawn jointly with all their labels.
- The trained model and the chosen settings are fixed. The interval covers only the uncertainty from the choice of test
  clips.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.stats import DegenerateDataWarning, bootstrap

from .metrics import Scores, Truth

Statistic = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]


_AlongAxis = Callable[..., npt.NDArray[np.float64]]


_DRAWN_AT_ONCE = 2**20
"""Clip numbers that are drawn at once. Limits the memory for large corpora."""


_MOST_LEFT_OUT_SINGLY = 4000
"""Largest number of clips for a jackknife over single clips."""


_GROUPS = 500
"""Number of groups in the jackknife of larger corpora."""


def bootstrap_interval(
    statistic: Statistic,
    clips: int,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int,
    corrected: bool = True,
) -> tuple[float, float]:
    """Compute the bootstrap interval of a statistic over clips: BCa (Efron, 1987), or percentile where BCa fails.

    The average precision of a rare class is larger in most draws, where its few clips appear twice or more. With many
    such classes BCa is undefined, or its interval does not contain the figure. The percentile interval then replaces
    it, shifted by the difference between the figure and the mean of the draws.

    The acceleration of BCa is estimated from the figures with one clip left out at a time. With more than 4,000 clips,
    one of 500 random groups of clips is left out at a time instead (delete-a-group jackknife; Efron & Tibshirani, 1993,
    chapter 11), because with single clips the cost of average precision grows with the square of their number.

    Args:
        statistic: maps drawn clip numbers, (draws, drawn), to the figure of each draw, (draws,)
        clips: number of clips, two or more
        corrected: False for the percentile interval, which needs no jackknife
    """

    def of_draws(rows: npt.NDArray[np.int64], axis: int) -> npt.NDArray[np.float64]:
        return statistic(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:-1])

    interval = partial(
        bootstrap,
        vectorized=True,
        confidence_level=confidence,
        batch=max(1, _DRAWN_AT_ONCE // clips),
        rng=np.random.default_rng(seed),
    )
    plain = interval((np.arange(clips),), of_draws, method="percentile", n_resamples=resamples)
    if not corrected:
        return float(plain.confidence_interval.low), float(plain.confidence_interval.high)
    members = clips
    of_left: _AlongAxis = of_draws
    if clips > _MOST_LEFT_OUT_SINGLY:
        members, of_left = _GROUPS, _of_groups(statistic, clips, seed)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        bca = interval((np.arange(members),), of_left, method="BCa", n_resamples=0, bootstrap_result=plain)
    figure = float(statistic(np.arange(clips)[None])[0])
    low, high = bca.confidence_interval
    if not low <= figure <= high:
        bias = plain.bootstrap_distribution.mean() - figure
        low, high = (bound - bias for bound in plain.confidence_interval)
    return float(low), float(high)


def _of_groups(statistic: Statistic, clips: int, seed: int) -> _AlongAxis:
    """Return the same statistic for draws of groups of clips: (…, drawn) to (…,). Sizes differ by one clip at most."""
    groups = np.array_split(np.random.default_rng(seed).permutation(clips), _GROUPS)

    def of_draws(numbers: npt.NDArray[np.int64], axis: int) -> npt.NDArray[np.float64]:
        # One at a time, because draws of groups of unequal size have unequal lengths.
        draws = numbers.reshape(-1, numbers.shape[-1])
        figures = [statistic(np.concatenate([groups[number] for number in draw])[None])[0] for draw in draws]
        return np.reshape(np.array(figures), numbers.shape[:-1])

    return of_draws


def accuracy_of_draws(truth: Truth, scores: Scores) -> Statistic:
    """Return the statistic for `bootstrap_interval` whose figure is `accuracy`."""
    right = truth.argmax(axis=1) == scores.argmax(axis=1)

    def statistic(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return np.asarray(right[rows].mean(axis=-1), dtype=np.float64)

    return statistic


def unweighted_average_recall_of_draws(truth: Truth, scores: Scores) -> Statistic:
    """Return the statistic for `bootstrap_interval` whose figure is `unweighted_average_recall`.

    The mean of a draw leaves out classes without a clip in the draw.
    """
    actual = truth.argmax(axis=1)
    right = actual == scores.argmax(axis=1)
    classes = [np.flatnonzero(actual == label) for label in np.unique(actual)]

    def statistic(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        counts = _counts(rows, len(truth))
        recalls, occurring = np.zeros(len(rows)), np.zeros(len(rows))
        for members in classes:
            drawn = counts[members].sum(axis=0)
            recalls += counts[members[right[members]]].sum(axis=0) / np.maximum(drawn, 1)
            occurring += drawn > 0
        return recalls / occurring

    return statistic


def mean_average_precision_of_draws(truth: Truth, scores: Scores) -> Statistic:
    """Return the statistic for `bootstrap_interval` whose figure is `mean_average_precision`.

    scikit-learn would sort every class again for every draw, although a draw only changes how often each clip counts.
    The mean of a draw leaves out classes without a positive clip in the draw. The figure of a draw without any positive
    clip is 0.
    """
    rankings = [_Ranking.of(truth[:, column], scores[:, column]) for column in np.flatnonzero(truth.any(axis=0))]

    def statistic(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        counts = _counts(rows, len(truth))
        total = np.zeros(len(rows))
        classes = np.zeros(len(rows))
        for ranking in rankings:
            precision, defined = ranking.average_precision(counts)
            total += precision
            classes += defined
        return total / np.maximum(classes, 1)

    return statistic


def _counts(rows: npt.NDArray[np.int64], clips: int) -> npt.NDArray[np.int32]:
    """Count how often each draw contains each clip: (draws, drawn) clip numbers to (clips, draws) counts."""
    draws = len(rows)
    places = rows * draws + np.arange(draws)[:, None]
    return np.bincount(places.ravel(), minlength=clips * draws).astype(np.int32).reshape(clips, draws)


@dataclass(frozen=True)
class _Ranking:
    """The clips of one class in order of descending score, cut at the thresholds that add a positive clip.

    Attributes:
        order: clip numbers down to the last positive one; clips of equal score share a threshold, as in scikit-learn
        starts: (thresholds,) the index in `order` where each threshold's new clips start
        positives: clip numbers of the positive clips
        positive_starts: (thresholds,) the index in `positives` where each threshold's new clips start
    """

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    positives: npt.NDArray[np.int64]
    positive_starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, truth: Truth, scores: Scores) -> _Ranking:
        """Rank the clips of one class: (clips,), (clips,). At least one clip must be positive."""
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        places = np.flatnonzero(truth[order])
        thresholds, positive_starts = np.unique(np.searchsorted(ends, places), return_index=True)
        ends = ends[thresholds]
        return cls(order[: ends[-1] + 1], np.append(0, ends[:-1] + 1), order[places], positive_starts)

    def average_precision(self, counts: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Compute the average precision of each draw, and whether it contains a positive clip.

        Args:
            counts: (clips, draws)

        Returns:
            Average precision, (draws,), and whether it is defined, (draws,).
        """
        drawn = np.add.reduceat(counts[self.order], self.starts, axis=0).cumsum(axis=0)  # (thresholds, draws)
        gained = np.add.reduceat(counts[self.positives], self.positive_starts, axis=0)
        hits = gained.cumsum(axis=0)
        positives = hits[-1]
        summed = (gained * (hits / np.maximum(drawn, 1))).sum(axis=0)
        return summed / np.maximum(positives, 1), positives > 0
