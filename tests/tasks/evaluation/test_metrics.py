"""Compare metrics with slow reference implementations, and check the coverage of their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.core.errors import CorpusError
from ossicle.tasks.evaluation import bootstrap
from ossicle.tasks.evaluation.bootstrap import (
    accuracy_of_draws,
    bootstrap_interval,
    mean_average_precision_of_draws,
    unweighted_average_recall_of_draws,
)
from ossicle.tasks.evaluation.metrics import (
    accuracy,
    d_prime,
    mean_area_under_roc,
    mean_average_precision,
    other_figures,
    unweighted_average_recall,
)
from ossicle.tasks.evaluation.results import score_view


def slow_average_precision(truth, scores):
    """Sum the precision at every threshold, weighted by the gain in recall."""
    total = 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        entered = scores >= threshold
        gained = (truth & (scores == threshold)).sum()
        total += gained / truth.sum() * (truth & entered).sum() / entered.sum()
    return total


def problem(seed, clips=12, classes=4, levels=5):
    rng = np.random.default_rng(seed)
    return rng.random((clips, classes)) < 0.3, rng.integers(levels, size=(clips, classes)).astype(np.float32)


def test_accuracy_counts_hits():
    truth = np.eye(3, dtype=bool)[[0, 1, 2, 2]]
    scores = np.array([[3, 1, 0], [0, 9, 1], [5, 0, 1], [0, 0, 1]], dtype=np.float32)
    assert accuracy(truth, scores) == 0.75


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_mean_average_precision_equals_the_slow_one(seed):
    truth, scores = problem(seed)
    truth[0, 0] = True
    present = [column for column in range(truth.shape[1]) if truth[:, column].any()]
    value, left_out = mean_average_precision(truth, scores)
    assert value == pytest.approx(np.mean([slow_average_precision(truth[:, c], scores[:, c]) for c in present]))
    assert left_out == truth.shape[1] - len(present)


def test_mean_average_precision_of_one_class_present():
    truth = np.zeros((4, 3), dtype=bool)
    truth[1, 2] = True
    value, left_out = mean_average_precision(truth, np.arange(12.0).reshape(4, 3))
    assert (value, left_out) == (pytest.approx(1 / 3), 2)


def test_mean_average_precision_needs_a_positive():
    with pytest.raises(CorpusError, match="needs a clip that carries a label, but none does; add labelled clips"):
        mean_average_precision(np.zeros((3, 2), dtype=bool), np.zeros((3, 2)))


def test_unweighted_average_recall_weights_classes_equally():
    truth = np.eye(4, dtype=bool)[[0, 0, 0, 0, 1, 1, 2]]  # no clip of the last class
    scores = np.eye(4)[[0, 0, 0, 3, 1, 2, 0]]
    assert unweighted_average_recall(truth, scores) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert accuracy(truth, scores) == pytest.approx(4 / 7)


def slow_area_under_roc(truth, scores):
    """Compute how often a positive clip has a higher score than a negative one. Ties count half."""
    apart = scores[truth][:, None] - scores[~truth][None]
    return ((apart > 0) + (apart == 0) / 2).mean()


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_mean_area_under_roc_equals_the_slow_one(seed):
    truth, scores = problem(seed)
    truth[:, 0] = True  # undefined, because every clip has this class
    truth[:, 1] = np.arange(len(truth)) % 3 == 0
    defined = [column for column in range(1, 4) if truth[:, column].any()]
    area = mean_area_under_roc(truth, scores)
    expected = [slow_area_under_roc(truth[:, column], scores[:, column]) for column in defined]
    assert area == pytest.approx(np.mean(expected))


def test_d_prime_is_the_distance_of_two_normal_distributions():
    rng = np.random.default_rng(0)
    truth = np.repeat([True, False], 20_000)[:, None]
    scores = rng.normal(size=truth.shape) + 1.5 * truth
    assert d_prime(mean_area_under_roc(truth, scores)) == pytest.approx(1.5, abs=0.03)
    assert d_prime(0.5) == 0.0
    assert d_prime(0.76024994) == pytest.approx(1.0, abs=1e-6)  # the standard normal distribution at 1 / sqrt(2)
    assert d_prime(1.0) == np.inf


def test_other_figures_leave_out_undefined_metrics():
    truth = np.array([[True, False], [False, False], [True, False]])
    perfect = truth.astype(np.float32)
    assert other_figures(truth, perfect, multi_label=True) == {"mAUC": 1.0}
    assert other_figures(np.ones((3, 2), dtype=bool), perfect, multi_label=True) == {}
    flat = other_figures(truth, np.zeros((3, 2)), multi_label=True)
    assert flat == {"mAUC": 0.5, "d_prime": 0.0}


@pytest.mark.slow
@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_statistics_of_draws_equal_metrics_of_the_drawn_clips(seed):
    truth, scores = problem(seed)
    rows = np.random.default_rng(seed).integers(len(truth), size=(5, len(truth)))
    of_draws = mean_average_precision_of_draws(truth, scores)(rows)
    for drawn, value in zip(rows, of_draws, strict=True):
        expected = mean_average_precision(truth[drawn], scores[drawn])[0] if truth[drawn].any() else 0.0
        assert value == pytest.approx(expected)
    hits = accuracy_of_draws(truth, scores)(rows)
    assert hits == pytest.approx([accuracy(truth[drawn], scores[drawn]) for drawn in rows])
    recalls = unweighted_average_recall_of_draws(truth, scores)(rows)
    assert recalls == pytest.approx([unweighted_average_recall(truth[drawn], scores[drawn]) for drawn in rows])


@pytest.mark.slow
@pytest.mark.parametrize(("clips", "chance"), [(60, 0.8), (100, 0.5)])
def test_interval_has_its_nominal_coverage(clips, chance):
    rng = np.random.default_rng(7)
    covered = []
    for trial in range(150):
        right = rng.random(clips) < chance
        low, high = bootstrap_interval(lambda rows, right=right: right[rows].mean(-1), clips, seed=trial)
        covered.append(low <= chance <= high)
    # Three standard errors of 150 trials at 95 %, and a margin because a share of few clips is discrete.
    assert 0.89 <= np.mean(covered) <= 0.99


def test_interval_is_repeatable_and_widens_with_confidence():
    right = np.arange(40) % 3 > 0

    def interval(**options):
        return bootstrap_interval(lambda rows: right[rows].mean(-1), 40, **options)

    assert interval(seed=1) == interval(seed=1)
    narrow, wide = interval(seed=1, confidence=0.5), interval(seed=1, confidence=0.99)
    assert wide[0] < narrow[0] < right.mean() < narrow[1] < wide[1]


@pytest.mark.parametrize("multi_label", [False, True])
def test_perfect_scores_have_a_point_interval(multi_label):
    truth = np.eye(4, dtype=bool)[np.arange(20) % 4]
    score = score_view("mean", truth, truth.astype(np.float32), multi_label=multi_label, seed=0, chosen={"k": 1})
    assert (score.value, score.low, score.high, score.clips) == (1.0, 1.0, 1.0, 20)
    assert score.metric == ("mAP" if multi_label else "accuracy")
    assert score.others == ({"mAUC": 1.0} if multi_label else {"UAR": 1.0})
    assert score.folds == {}
    assert score.chosen == ({"k": 1, "classes_left_out": 0} if multi_label else {"k": 1})


def test_interval_of_average_precision_is_corrected_for_its_bias():
    rng = np.random.default_rng(0)
    truth = rng.random((200, 10)) < 0.15
    scores = rng.normal(size=truth.shape) + 0.8 * truth
    score = score_view("mean", truth, scores, multi_label=True, seed=0, chosen={})
    draws = mean_average_precision_of_draws(truth, scores)(rng.integers(200, size=(500, 200)))
    assert draws.mean() > score.value
    assert score.low < score.value < score.high < np.quantile(draws, 0.975)


@pytest.mark.slow
def test_an_interval_of_many_rare_classes_contains_its_figure():
    draw = np.random.default_rng(0)
    clips, classes = 300, 300
    truth = np.zeros((clips, classes), dtype=bool)
    for number in range(classes):
        truth[draw.choice(clips, 2, replace=False), number] = True
    scores = draw.random((clips, classes))
    figure, _ = mean_average_precision(truth, scores)
    low, high = bootstrap_interval(mean_average_precision_of_draws(truth, scores), clips, seed=0)
    assert low < figure < high
    assert 0.1 < (high - low) / figure < 1.0


def test_an_interval_of_many_clips_leaves_out_groups():
    right, sizes = np.arange(5000) % 3 > 0, []

    def statistic(rows):
        sizes.append(len(rows))
        return right[rows].mean(-1)

    low, high = bootstrap_interval(statistic, len(right), seed=0)
    assert sum(sizes) == 1000 + 500 + 2  # draws, groups left out, and the figure itself, by scipy and by Ossicle
    assert low < right.mean() < high


def test_the_jackknife_over_groups_is_close_to_that_over_clips(monkeypatch):
    rng = np.random.default_rng(0)
    truth = rng.random((2000, 3)) < 0.05
    statistic = mean_average_precision_of_draws(truth, rng.normal(size=truth.shape) + 1.5 * truth)
    plain = np.array(bootstrap_interval(statistic, 2000, seed=0, corrected=False))
    single = np.array(bootstrap_interval(statistic, 2000, seed=0))
    monkeypatch.setattr(bootstrap, "_MOST_LEFT_OUT_SINGLY", 1999)
    grouped = np.array(bootstrap_interval(statistic, 2000, seed=0))
    assert not np.array_equal(grouped, single)
    assert (np.abs(grouped - single) < 0.1 * np.abs(plain - single)).all()
