"""Compare variants by their scores over several seeds on the same test clips. Works on arrays and reads no files.

Notable choices:

- A score depends on the test clips and on the seed of the training, so an error bar must contain both.
- There are many clips, so they are resampled: with replacement (bootstrap), or by swapping predictions between two
  variants (paired permutation), jointly for all runs.
- There are few seeds, so they are not resampled. Three seeds drawn with replacement never leave their range, and their
  eight sign flips cannot give a p-value below 0.25. Instead, the effect of seeds is Student's t around each draw. This
  is the method of Behrens and Fisher for two sources of error with different degrees of freedom (Fisher, 1935).
- The spread of that effect comes from an analysis of variance of all runs, variants by seeds, less the variance that
  clips cause. Every variant's seeds show how much seeds matter. If the seeds of a variant scatter more, its larger
  variance is used.
- If one variant scatters three times as much as all others, the false-alarm rate rises from 5 % to about 10 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.stats import permutation_test, rankdata, t

from ..tasks.evaluation.bootstrap import (
    Statistic,
    accuracy_of_draws,
    mean_average_precision_of_draws,
    unweighted_average_recall_of_draws,
)
from ..tasks.evaluation.metrics import Scores, Truth

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Measure:
    """A measure on resampled clips, and a transform that makes the scores of two models comparable.

    The transform does not change the measure of either model.
    """

    of_draws: Callable[[Truth, Scores], Statistic]
    comparable: Callable[[Scores], Scores]


def _ranks(scores: Scores) -> Scores:
    return np.asarray(rankdata(scores, axis=0), dtype=np.float64)


_UNCHANGED: Callable[[Scores], Scores] = np.asarray
MEASURES: Mapping[str, _Measure] = {
    "accuracy": _Measure(accuracy_of_draws, _UNCHANGED),
    "UAR": _Measure(unweighted_average_recall_of_draws, _UNCHANGED),
    "mAP": _Measure(mean_average_precision_of_draws, _ranks),
}
"""The measures with known error."""

LEVEL = 0.05
POWER = 0.8
DRAWS = 999
ROUNDING = 1e-9
_AT_ONCE = 2**21
_EVENLY = (np.arange(499) + 0.5) / 499


@dataclass(frozen=True)
class Run:
    """The predictions of one trained model for the test clips, which are the same in all compared runs.

    Attributes:
        truth: (clips, classes) bool
        scores: (clips, classes), higher is likelier
    """

    variant: str
    seed: int
    truth: Truth
    scores: Scores


@dataclass(frozen=True)
class Estimate:
    """The mean of a variant over its seeds, as a share in [0, 1], with its 95 % interval over seeds and clips.

    Attributes:
        of_seeds: seed to the value of that run
        seeds_known: whether the interval includes seeds; it covers only clips if no variant has two seeds
    """

    variant: str
    value: float
    low: float
    high: float
    of_seeds: Mapping[int, float]
    seeds_known: bool


@dataclass(frozen=True)
class Contrast:
    """The difference between two variants on the same clips with the same seeds, as a share.

    Attributes:
        low, high: 95 % interval over seeds and clips
        p: two-sided p-value of the difference under the variation of clips and seeds; only of clips without
            `seeds_known`
        improvement: probability that a run of the first variant scores above a run of the second on resampled clips,
            where ties count half (Agarwal et al., 2021, arXiv 2108.13264)
        seeds: the seeds that both variants have
        seeds_known: whether the variation of seeds is included
        clip_errors, seed_errors: equally likely values of the error that clips and seeds add to the difference
    """

    variant: str
    other: str
    value: float
    low: float
    high: float
    p: float
    improvement: float
    seeds: Sequence[int]
    seeds_known: bool
    clip_errors: Floats = field(repr=False)
    seed_errors: Floats = field(repr=False)

    def detectable(self, tests: int = 1) -> float:
        """Return the smallest difference, as a share, that this design finds with a probability of 0.8.

        Args:
            tests: number of differences that are tested together at a level of 0.05
        """
        if not self.seeds_known:
            return float("nan")
        errors = _sums(self.clip_errors, self.seed_errors)
        return float(np.quantile(np.abs(errors), 1 - LEVEL / tests) + np.quantile(errors, POWER))


@dataclass(frozen=True)
class _SeedNoise:
    """The variance that seeds add to the score of a run, and its degrees of freedom (0 if it is unknown)."""

    variance: float
    freedom: float

    @property
    def known(self) -> bool:
        """Whether any variant has a second seed to estimate the variance from."""
        return self.freedom > 0

    def scale(self, own: float, seeds: int, *, runs: int) -> float:
        """Return the standard error that seeds add to a mean over `seeds`, or to the difference of two (`runs`) means.

        Args:
            own: the variance of the seeds of this variant
        """
        if not self.known:
            return 0.0
        return float(np.sqrt(runs * max(self.variance, own) / seeds))

    def values(self, scale: float) -> Floats:
        """Return evenly spaced quantiles of the error from seeds: `scale` times Student's t."""
        return np.asarray(scale * t.ppf(_EVENLY, self.freedom)) if scale > 0 else np.zeros(1)


class Sample:
    """The runs of several variants, scored by one measure on the same test clips.

    Args:
        runs: at most one for each variant and seed
        measure: a key of `MEASURES`
        draws: number of bootstrap draws, and of permutations
        seed: drives the draws
    """

    def __init__(self, runs: Sequence[Run], measure: str, *, draws: int = DRAWS, seed: int = 0) -> None:
        self.clips = len(runs[0].truth)
        self.variants = list(dict.fromkeys(run.variant for run in runs))
        self._runs = {(run.variant, run.seed): run for run in runs}
        self._measure = MEASURES[measure]
        self._draws, self._seed = draws, seed
        statistics = [self._measure.of_draws(run.truth, run.scores) for run in runs]
        figures = [[statistic(rows) for statistic in statistics] for rows in self._drawn()]
        self._figures = dict(zip(self._runs, np.concatenate(figures, axis=1), strict=True))

    def _drawn(self) -> Iterator[Rows]:
        """Yield the original clips, then the clips of each draw, several draws at a time."""
        generator = np.random.default_rng(self._seed)
        yield np.arange(self.clips)[None]
        at_once = max(1, _AT_ONCE // self.clips)
        for start in range(0, self._draws, at_once):
            yield generator.integers(self.clips, size=(min(at_once, self._draws - start), self.clips))

    def seeds(self, variant: str) -> list[int]:
        """List the seeds of a variant."""
        return [seed for name, seed in self._runs if name == variant]

    def _of(self, variant: str, seeds: Sequence[int]) -> Floats:
        """Return the value of each run on the original clips, then on each draw: (1 + draws, seeds)."""
        return np.stack([self._figures[variant, seed] for seed in seeds], axis=1)

    def estimate(self, variant: str) -> Estimate:
        """Estimate the mean of a variant over its seeds."""
        seeds = self.seeds(variant)
        figures = self._of(variant, seeds)
        noise = self._noise_of_means
        means = figures.mean(axis=1)
        low, high = _interval(means[1:], noise.values(noise.scale(_variance(figures), len(seeds), runs=1)))
        of_seeds = dict(zip(seeds, map(float, figures[0]), strict=True))
        return Estimate(variant, float(means[0]), low, high, of_seeds, noise.known)

    def contrast(self, variant: str, other: str) -> Contrast | None:
        """Compare two variants over the seeds that both have. Return None if they share none."""
        seeds = [seed for seed in self.seeds(variant) if seed in self.seeds(other)]
        if not seeds:
            return None
        ours, theirs = self._of(variant, seeds), self._of(other, seeds)
        apart = ours - theirs
        noise = self._noise
        scale = noise.scale(_variance(apart) / 2, len(seeds), runs=2)
        value, draws = float(apart[0].mean()), apart[1:].mean(axis=1)
        seed_errors = noise.values(scale)
        low, high = _interval(draws, seed_errors)
        wins = np.sign(ours[1:, :, None] - theirs[1:, None, :])
        return Contrast(
            variant,
            other,
            value,
            low,
            high,
            p=self._p_value(variant, other, seeds, value, scale),
            improvement=float((1 + wins.mean()) / 2),
            seeds=seeds,
            seeds_known=noise.known,
            clip_errors=draws - value,
            seed_errors=seed_errors,
        )

    def _p_value(self, variant: str, other: str, seeds: Sequence[int], value: float, scale: float) -> float:
        """Compute the probability of a difference at least as large that only clips and seeds cause."""
        null = np.abs(value) - self._swapped(variant, other, seeds)
        mirrored = 2 * np.abs(value) - null
        if scale > 0:
            freedom = self._noise.freedom
            return float((t.sf(null / scale, freedom) + t.sf(mirrored / scale, freedom)).mean())
        as_large = np.minimum(null, mirrored) <= ROUNDING
        return float((1 + as_large.sum()) / (1 + len(null)))

    def _swapped(self, variant: str, other: str, seeds: Sequence[int]) -> Floats:
        """Compute the differences after swapping the predictions of random clips, the same clips for all seeds:
        (swaps,).

        Scores are replaced by ranks, because the two models may score on different scales.
        """
        statistics = []
        for seed in seeds:
            pair = [self._runs[variant, seed], self._runs[other, seed]]
            truth = np.concatenate([run.truth for run in pair])
            scores = np.concatenate([self._measure.comparable(run.scores) for run in pair])
            statistics.append(self._measure.of_draws(truth, scores))

        def apart(ours: Rows, theirs: Rows, axis: int) -> Floats:
            one, other = (rows.reshape(-1, self.clips) for rows in (ours, theirs))
            found = np.mean([statistic(one) - statistic(other) for statistic in statistics], axis=0)
            return np.asarray(found).reshape(ours.shape[:-1])

        numbers = np.arange(self.clips)
        found = permutation_test(
            (numbers, numbers + self.clips),
            apart,
            permutation_type="samples",
            vectorized=True,
            n_resamples=self._draws,
            batch=max(1, _AT_ONCE // self.clips),
            axis=-1,
            rng=np.random.default_rng(self._seed),
        )
        return np.asarray(found.null_distribution, dtype=np.float64)

    @cached_property
    def _table(self) -> Floats:
        """The values of all runs, then the change of each value in each draw: (runs, 1 + draws)."""
        table = np.stack(list(self._figures.values()))
        return np.concatenate([table[:, :1], table[:, 1:] - table[:, :1]], axis=1)

    @cached_property
    def _noise(self) -> _SeedNoise:
        """The effect of a seed that differs between variants, from the residuals of variants by seeds."""
        squares, freedom = _residual(self._table, self._columns("variant"), self._columns("seed"))
        return _SeedNoise(_without_clips(squares / freedom), freedom) if freedom else _SeedNoise(0.0, 0)

    @cached_property
    def _noise_of_means(self) -> _SeedNoise:
        """The effect of a seed on a variant, from the scatter of the seeds of each variant.

        The part that all variants share is estimated from the number of seeds, however many variants there are. The
        degrees of freedom of the sum follow Satterthwaite (1946).
        """
        squares, freedom = _residual(self._table, self._columns("variant"))
        if not freedom:
            return _SeedNoise(0.0, 0)
        rest, rest_freedom = _residual(self._table, self._columns("variant"), self._columns("seed"))
        shared, shared_freedom = squares[0] - rest[0], freedom - rest_freedom
        parts = [(shared, shared_freedom), (rest[0], rest_freedom)]
        spread = sum(part**2 / free for part, free in parts if free)
        return _SeedNoise(_without_clips(squares / freedom), float(squares[0] ** 2 / spread) if spread else freedom)

    def _columns(self, of: str) -> npt.NDArray[np.bool_]:
        names = [getattr(run, of) for run in self._runs.values()]
        return np.array([[name == one for one in dict.fromkeys(names)] for name in names])


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests (Holm, 1979), in the given order.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    [0.03, 0.06, 0.06, 0.02]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in corrected]


def _residual(table: Floats, *columns: npt.NDArray[np.bool_]) -> tuple[Floats, int]:
    """Return the residual squares of each column of (runs, …) after additive effects, and the degrees of freedom."""
    design = np.concatenate(columns, axis=1).astype(np.float64)
    effects, _, rank, _ = np.linalg.lstsq(design, table, rcond=None)
    return np.square(table - design @ effects).sum(axis=0), len(design) - int(rank)


def _without_clips(mean_squares: Floats) -> float:
    """Subtract from the first mean square the part that resampling clips adds on average."""
    return max(0.0, float(mean_squares[0] - mean_squares[1:].mean()))


def _variance(figures: Floats) -> float:
    """Return the variance over seeds of (1 + draws, seeds) values, less the part from clips; 0 for one seed."""
    if figures.shape[1] < 2:
        return 0.0
    moved = np.concatenate([figures[:1], figures[1:] - figures[:1]])
    return _without_clips(moved.var(axis=1, ddof=1))


def _interval(draws: Floats, added: Floats) -> tuple[float, float]:
    low, high = np.quantile(_sums(draws, added), (LEVEL / 2, 1 - LEVEL / 2))
    return float(low), float(high)


def _sums(draws: Floats, added: Floats) -> Floats:
    return (draws[:, None] + added).ravel()
