"""Correlate cheap figures of a tokenizer's tokens with the score of its encoder.

Notable choices:

- Figures and scores are compared by rank, because their relation need not be linear.
- All runs count, but the interval resamples variants (a cluster bootstrap), because runs that differ only in the seed
  are nearly the same.
- With few variants the intervals are wide. If an interval contains zero, the trend is "cannot tell".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau, spearmanr

from ..report.record import TokenFigures
from .outcomes import Ablation

Floats = npt.NDArray[np.float64]
Trend = Literal["rises with", "falls with", "cannot tell"]

LEAST_VARIANTS = 4
DRAWS = 999


def _beyond_chance(one: TokenFigures) -> float | None:
    if one.label_information is None or one.label_chance is None:
        return None
    return one.label_information - one.label_chance


FIGURES: Mapping[str, Callable[[TokenFigures], float | None]] = {
    "perplexity": lambda one: one.perplexity,
    "share of codes used": lambda one: one.used / one.codebook_size,
    "class information, beyond chance": _beyond_chance,
    "position information": lambda one: one.position_information,
    "time column information": lambda one: one.column_information,
    "band information": lambda one: one.band_information,
}
"""Figures of tokens that are known before any pre-training."""


@dataclass(frozen=True)
class Interval:
    """A rank correlation in [−1, 1] with its 95 % interval over variants, or NaN if undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictor:
    """The correlation of one figure with one metric.

    Attributes:
        points: (variant, seed, figure, score as a share) of each run
        spearman, kendall: rank correlations over the runs
    """

    figure: str
    metric: str
    points: Sequence[tuple[str, int, float, float]]
    spearman: Interval
    kendall: Interval

    @property
    def variants(self) -> int:
        """Number of variants among the runs."""
        return len({variant for variant, *_ in self.points})

    @property
    def trend(self) -> Trend:
        """Whether the score rises or falls with the figure, as far as the interval shows."""
        if self.spearman.low > 0:
            return "rises with"
        return "falls with" if self.spearman.high < 0 else "cannot tell"


def predictors(ablation: Ablation) -> list[Predictor]:
    """Correlate every figure with every metric that at least three runs share, the strongest of a metric first."""
    found = []
    for metric in ablation.metrics:
        ours = [one for name in FIGURES if (one := _predictor(name, metric, ablation))]
        found += sorted(ours, key=lambda one: -abs(one.spearman.value) if math.isfinite(one.spearman.value) else 1.0)
    return found


def _predictor(name: str, metric: str, ablation: Ablation) -> Predictor | None:
    measure = metric.rpartition("/")[2]
    points = []
    for cell in ablation.cells:
        tokens, score = cell.tokens(), cell.score(metric)
        figure = FIGURES[name](tokens) if tokens else None
        if figure is not None and score is not None:
            value = score.value if measure == score.metric else score.others[measure]
            points.append((cell.variant, cell.seed, figure, value))
    if len(points) < 3:
        return None
    spearman, kendall = correlations([point[0] for point in points], *(_column(points, index) for index in (2, 3)))
    return Predictor(name, metric, points, spearman, kendall)


def _column(points: Sequence[tuple[str, int, float, float]], index: int) -> Floats:
    return np.array([point[index] for point in points], dtype=np.float64)


def correlations(variants: Sequence[str], figures: Floats, scores: Floats) -> tuple[Interval, Interval]:
    """Spearman's and Kendall's rank correlation with bootstrap intervals over variants.

    Args:
        variants: (runs,) variant of each run
        figures, scores: (runs,)

    Returns:
        Spearman's and Kendall's correlation. Intervals are NaN with fewer than four variants. Values and intervals are
        NaN if all figures or all scores are equal.
    """
    if len(set(figures)) < 2 or len(set(scores)) < 2:
        undefined = Interval(math.nan, math.nan, math.nan)
        return undefined, undefined
    values = float(spearmanr(figures, scores).statistic), float(kendalltau(figures, scores).statistic)
    names = list(dict.fromkeys(variants))
    if len(names) < LEAST_VARIANTS:
        first, second = (Interval(value, math.nan, math.nan) for value in values)
        return first, second
    drawn = np.random.default_rng(0).integers(len(names), size=(DRAWS, len(names)))
    often = np.stack([(drawn == names.index(variant)).sum(axis=1) for variant in variants], axis=1)
    draws = _of_draws(figures, scores, often.astype(np.float64))
    lows, highs = np.nanquantile(draws, (0.025, 0.975), axis=0)
    first, second = (Interval(*map(float, one)) for one in zip(values, lows, highs, strict=True))
    return first, second


def _of_draws(figures: Floats, scores: Floats, often: Floats) -> Floats:
    """Compute Spearman's rho and Kendall's tau-b of each draw, or NaN if figures or scores do not vary.

    Args:
        often: (draws, runs) number of times each run was drawn

    Returns:
        (draws, 2)
    """
    one, other = (np.sign(values[:, None] - values) for values in (figures, scores))
    # The number of runs below a run minus the number above it is 2 * (rank - mean rank).
    ranks, others = often @ one.T, often @ other.T

    def between(values: Floats, against: Floats) -> Floats:
        return np.asarray(np.einsum("dr,dr,dr->d", often, values, against))

    def among_pairs(values: Floats) -> Floats:
        return np.asarray(np.einsum("dr,rs,ds->d", often, values, often, optimize=True))

    rho = _ratio(between(ranks, others), between(ranks, ranks) * between(others, others))
    tau = _ratio(among_pairs(one * other), among_pairs(one**2) * among_pairs(other**2))
    return np.stack([rho, tau], axis=1)


def _ratio(product: Floats, squares: Floats) -> Floats:
    return np.divide(product, np.sqrt(squares), out=np.full_like(product, np.nan), where=squares > 0)
