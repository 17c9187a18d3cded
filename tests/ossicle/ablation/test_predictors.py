"""Correlations of token figures with scores: equality with scipy, and cases without an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from ossicle.ablation.outcomes import Ablation
from ossicle.ablation.predictors import FIGURES, correlations, predictors


def names(variants: int, seeds: int = 3) -> list[str]:
    return [f"variant {number}" for number in range(variants) for _ in range(seeds)]


def test_values_equal_scipy() -> None:
    draw = np.random.default_rng(0)
    figures = draw.integers(6, size=18).astype(float)
    scores = figures + draw.integers(6, size=18)
    rho, tau = correlations(names(6), figures, scores)
    assert rho.value == pytest.approx(spearmanr(figures, scores).statistic)
    assert tau.value == pytest.approx(kendalltau(figures, scores).statistic)
    assert rho.low <= rho.value <= rho.high
    assert tau.low <= tau.value <= tau.high


def test_the_interval_equals_a_slow_bootstrap_over_variants() -> None:
    draw = np.random.default_rng(0)
    figures = np.repeat(draw.normal(size=6), 3) + 0.1 * draw.normal(size=18)
    scores = figures + draw.normal(size=18)
    rho, tau = correlations(names(6), figures, scores)
    slow = []
    for _ in range(400):
        rows = np.concatenate([np.arange(3) + 3 * number for number in draw.integers(6, size=6)])
        slow.append(
            (spearmanr(figures[rows], scores[rows]).statistic, kendalltau(figures[rows], scores[rows]).statistic)
        )
    lows, highs = np.quantile(slow, (0.025, 0.975), axis=0)
    assert (rho.low, rho.high) == pytest.approx((lows[0], highs[0]), abs=0.08)
    assert (tau.low, tau.high) == pytest.approx((lows[1], highs[1]), abs=0.08)


def test_false_alarms_are_rare() -> None:
    draw = np.random.default_rng(0)
    out = 0
    for _ in range(100):
        figures, scores = (np.repeat(draw.normal(size=7), 3) + 0.2 * draw.normal(size=21) for _ in range(2))
        rho, _ = correlations(names(7), figures, scores)
        out += rho.low > 0 or rho.high < 0
    assert out <= 11


def test_more_seeds_do_not_narrow_the_interval_like_more_variants() -> None:
    draw = np.random.default_rng(0)
    figures = np.repeat(draw.normal(size=5), 20)
    scores = np.repeat(draw.normal(size=5), 20) + 0.01 * draw.normal(size=100)
    rho, _ = correlations(names(5, 20), figures, scores)
    assert rho.high - rho.low > 1


def test_too_few_variants_give_no_interval() -> None:
    rho, _ = correlations(names(3), np.arange(9.0), np.arange(9.0))
    assert rho.value == pytest.approx(1)
    assert np.isnan([rho.low, rho.high]).all()


def test_a_constant_figure_has_no_correlation() -> None:
    rho, tau = correlations(names(5), np.ones(15), np.arange(15.0))
    assert np.isnan([rho.value, rho.low, tau.value]).all()


def test_predictors_of_a_study(study: Path) -> None:
    found = predictors(Ablation.read(study))
    ours = {one.figure: one for one in found if one.metric == "linear_probe/tones/accuracy"}
    assert set(ours) == set(FIGURES)
    assert (ours["perplexity"].trend, ours["perplexity"].variants) == ("rises with", 5)
    assert len(ours["perplexity"].points) == 14
    assert ours["position information"].trend == "cannot tell"
    assert {one.metric for one in found} == {
        "linear_probe/tones/accuracy",
        "knn_probe/tones/accuracy",
        "linear_probe/tones/UAR",
    }
