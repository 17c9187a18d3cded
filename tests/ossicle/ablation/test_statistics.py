"""Intervals, p-values and power, on simulated scores whose differences are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from scipy.stats import norm

from ossicle.ablation.statistics import Contrast, Run, Sample, holm
from ossicle.tasks.evaluation.metrics import figure, unweighted_average_recall

CLIPS, CLASSES = 120, 4
START = 0.3
WITHIN, OF_VARIANT = 0.8, 0.5


def simulated_trials(
    trials: int,
    *,
    variants: int = 4,
    seeds: int = 3,
    seed_sd: float = 0.0,
    gain: float = 0.0,
    shared: float = 0.0,
    second_scatter: float = 1.0,
    entropy: int = 0,
) -> Iterator[list[Run]]:
    """Yield simulated runs, which are correct on a clip if the sum of ease, gain and luck is above zero.

    Args:
        seed_sd: standard deviation of the effect of a seed on one variant
        gain: advantage of the second variant
        shared: standard deviation of the effect of a seed on all variants
        second_scatter: factor of `seed_sd` for the second variant
    """
    draw = np.random.default_rng(entropy)
    for _ in range(trials):
        truth = np.eye(CLASSES, dtype=bool)[draw.integers(CLASSES, size=CLIPS)]
        ease, of_seed = draw.normal(size=CLIPS), shared * draw.normal(size=seeds)
        runs = []
        for number in range(variants):
            own = OF_VARIANT * draw.normal(size=CLIPS)
            scatter = seed_sd * (second_scatter if number == 1 else 1.0)
            for seed in range(seeds):
                luck = WITHIN * draw.normal(size=CLIPS) + scatter * draw.normal() + of_seed[seed]
                right = START + gain * (number == 1) + ease + own + luck > 0
                scores = np.where(right[:, None], truth, np.roll(truth, 1, axis=1)).astype(np.float64)
                runs.append(Run(f"variant {number}", seed, truth, scores))
        yield runs


def accuracy_of(gain: float, seed_sd: float, shared: float = 0.0) -> float:
    """Compute the expected accuracy of a variant over all possible clips and seeds."""
    spread = np.sqrt(1 + OF_VARIANT**2 + WITHIN**2 + seed_sd**2 + shared**2)
    return float(norm.cdf((START + gain) / spread))


def contrasts(trials: Iterator[list[Run]]) -> list[Contrast]:
    found = [Sample(runs, "accuracy", draws=99).contrast("variant 1", "variant 0") for runs in trials]
    return [one for one in found if one]


def share(flags: Sequence[bool]) -> float:
    return float(np.mean(flags))


# At a rate of 0.05, more than 11 of 100 trials fail with a probability below 0.01.
MOST_WRONG = 0.11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "seed_sd", "shared"), [(3, 0.0, 0.0), (3, 0.15, 0.0), (3, 0.4, 0.0), (2, 0.3, 0.0), (3, 0.2, 0.2)]
)
def test_false_alarms_and_coverage_are_correct_for_any_effect_of_seeds(
    seeds: int, seed_sd: float, shared: float
) -> None:
    mean = accuracy_of(0.0, seed_sd, shared)
    alarms, missed, missed_means, widths = [], [], [], []
    for runs in simulated_trials(100, seed_sd=seed_sd, seeds=seeds, shared=shared):
        sample = Sample(runs, "accuracy", draws=99)
        found, estimate = sample.contrast("variant 1", "variant 0"), sample.estimate("variant 0")
        assert found is not None
        alarms.append(found.p < 0.05)
        missed.append(not found.low <= 0 <= found.high)
        missed_means.append(not estimate.low <= mean <= estimate.high)
        widths.append(estimate.high - estimate.low)
    assert share(alarms) <= MOST_WRONG
    assert share(missed) <= MOST_WRONG
    assert share(missed_means) <= MOST_WRONG
    assert np.median(widths) < 0.45


@pytest.mark.slow
def test_false_alarms_of_only_two_variants() -> None:
    found = contrasts(simulated_trials(100, variants=2, seed_sd=0.3))
    assert share([one.p < 0.05 for one in found]) <= MOST_WRONG


@pytest.mark.slow
def test_the_interval_covers_a_real_difference() -> None:
    actual = accuracy_of(0.5, 0.2) - accuracy_of(0.0, 0.2)
    found = contrasts(simulated_trials(100, seed_sd=0.2, gain=0.5, entropy=1))
    assert share([not one.low <= actual <= one.high for one in found]) <= MOST_WRONG
    assert share([one.p < 0.05 for one in found]) > 0.3


def test_a_test_over_only_clips_has_many_false_alarms() -> None:
    runs = [[run for run in trial if run.seed == 0] for trial in simulated_trials(60, seed_sd=0.4)]
    found = contrasts(iter(runs))
    assert not any(one.seeds_known for one in found)
    assert share([one.p < 0.05 for one in found]) > 0.2


@pytest.mark.slow
def test_a_variant_that_scatters_twice_as_much_uses_the_variance_of_its_seeds() -> None:
    found = contrasts(simulated_trials(100, variants=6, seed_sd=0.3, second_scatter=2.0))
    assert share([one.p < 0.05 for one in found]) <= 0.15


@pytest.mark.slow
def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    before = contrasts(simulated_trials(50, seed_sd=0.1))
    detectable = float(np.median([one.detectable() for one in before]))
    spread = np.sqrt(1 + OF_VARIANT**2 + WITHIN**2 + 0.1**2)
    gain = spread * float(norm.ppf(accuracy_of(0.0, 0.1) + detectable)) - START
    found = contrasts(simulated_trials(100, seed_sd=0.1, gain=gain, entropy=11))
    assert 0.65 <= share([one.p < 0.05 for one in found]) <= 0.93
    assert share([one.value > 0 for one in found]) == 1


def test_more_seeds_find_smaller_differences() -> None:
    few, many = (
        float(np.median([one.detectable() for one in contrasts(simulated_trials(10, seed_sd=0.3, seeds=seeds))]))
        for seeds in (2, 8)
    )
    assert many < 0.7 * few


def test_more_tests_need_larger_differences() -> None:
    one = contrasts(simulated_trials(1, seed_sd=0.1))[0]
    assert one.detectable(8) > one.detectable(1) > 0


def test_the_same_predictions_do_not_differ() -> None:
    runs = next(simulated_trials(1, variants=2))
    copies = [Run("copy", run.seed, run.truth, run.scores) for run in runs if run.variant == "variant 0"]
    found = Sample([*runs, *copies], "accuracy").contrast("copy", "variant 0")
    assert found is not None
    assert (found.value, found.low <= 0 <= found.high, found.improvement) == (0.0, True, pytest.approx(0.5))
    assert found.p > 0.9


def test_values_are_means_of_the_measure_over_common_seeds() -> None:
    draw = np.random.default_rng(0)
    truth = draw.random((60, 3)) < 0.4
    runs = [Run(name, seed, truth, draw.normal(size=truth.shape) + truth) for name in "ab" for seed in (0, 1, 2)]
    of = {(run.variant, run.seed): figure(truth, run.scores, multi_label=True) for run in runs}
    sample = Sample([run for run in runs if (run.variant, run.seed) != ("b", 2)], "mAP", draws=19)
    found = sample.contrast("a", "b")
    assert found is not None
    assert list(found.seeds) == [0, 1]
    assert found.value == pytest.approx(np.mean([of["a", seed] - of["b", seed] for seed in (0, 1)]))
    assert sample.estimate("a").value == pytest.approx(np.mean([of["a", seed] for seed in (0, 1, 2)]))
    assert dict(sample.estimate("b").of_seeds) == pytest.approx({0: of["b", 0], 1: of["b", 1]})


def test_variants_without_a_common_seed_are_not_compared() -> None:
    runs = [run for run in next(simulated_trials(1, variants=2)) if (run.variant == "variant 0") == (run.seed == 0)]
    assert Sample(runs, "accuracy", draws=19).contrast("variant 1", "variant 0") is None


def test_average_precision_is_compared_across_scales_of_scores() -> None:
    draw = np.random.default_rng(0)
    truth = draw.random((80, 4)) < 0.3
    runs = [
        Run(name, seed, truth, scale * (draw.normal(size=truth.shape) + 0.7 * truth) + scale)
        for name, scale in (("logits", 10.0), ("shares", 0.01))
        for seed in (0, 1, 2)
    ]
    found = Sample(runs, "mAP", draws=199).contrast("logits", "shares")
    assert found is not None
    assert found.p > 0.05


def test_recall_is_compared_class_by_class() -> None:
    truth = np.eye(2, dtype=bool)[np.repeat([0, 1], [90, 10])]
    always_first = np.tile([1.0, 0.0], (100, 1))
    good = np.where((np.arange(100) % 5 > 0)[:, None], truth, ~truth).astype(float)
    runs = [
        Run(name, seed, truth, scores) for name, scores in (("lazy", always_first), ("good", good)) for seed in (0, 1)
    ]
    found = Sample(runs, "UAR", draws=199).contrast("good", "lazy")
    assert found is not None
    assert found.value == pytest.approx(unweighted_average_recall(truth, good) - 0.5)
    assert found.low > 0
    assert Sample(runs, "accuracy", draws=199).contrast("good", "lazy").value == pytest.approx(-0.1)  # type: ignore[union-attr]


def test_the_same_seed_gives_the_same_figures() -> None:
    runs = next(simulated_trials(1, seed_sd=0.2))
    one, again = (Sample(runs, "accuracy", draws=99).contrast("variant 1", "variant 0") for _ in range(2))
    assert one is not None
    assert again is not None
    assert (one.low, one.high, one.p) == (again.low, again.high, again.p)


def test_wins_follow_the_difference() -> None:
    behind, level, ahead = (contrasts(simulated_trials(5, gain=gain)) for gain in (-1.0, 0.0, 1.0))
    assert all(one.improvement < 0.02 for one in behind)
    assert all(0.02 < one.improvement < 0.98 for one in level)
    assert all(one.improvement > 0.98 for one in ahead)


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.slow
def test_holm_limits_false_alarms_of_a_family_of_equal_variants() -> None:
    alarms = []
    for runs in simulated_trials(60, seed_sd=0.2, entropy=5):
        sample = Sample(runs, "accuracy", draws=99)
        found = [sample.contrast(f"variant {number}", "variant 0") for number in range(1, 4)]
        alarms.append(min(holm([one.p for one in found if one])) < 0.05)
    assert share(alarms) <= 8 / 60
