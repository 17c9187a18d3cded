"""Dropout on a CPU: its distribution, seed and gradient."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from ossicle.encoders.dropout import Dropout


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_each_element_is_dropped_with_the_probability(p: float) -> None:
    torch.manual_seed(0)
    dropout = Dropout(p).train()
    counts = torch.stack([dropout(torch.ones(101)) == 0 for _ in range(2000)]).sum(0)
    # All elements together, then the extremes of single elements.
    assert stats.binomtest(int(counts.sum()), 2000 * 101, p).pvalue > 1e-3
    assert stats.binomtest(int(counts.min()), 2000, p).pvalue > 1e-6
    assert stats.binomtest(int(counts.max()), 2000, p).pvalue > 1e-6


@pytest.mark.slow
def test_elements_are_dropped_independently_of_each_other() -> None:
    torch.manual_seed(0)
    dropped = torch.stack([Dropout(0.3).train()(torch.ones(16)) == 0 for _ in range(5000)]).double()
    correlations = torch.corrcoef(dropped.T)[~torch.eye(16, dtype=torch.bool)]
    assert correlations.abs().max() < 5 / 5000**0.5


def test_remaining_elements_are_scaled_to_preserve_the_mean() -> None:
    torch.manual_seed(0)
    out = Dropout(0.25).train()(torch.ones(200_000))
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3], rel=1e-4)
    assert out.mean() == pytest.approx(1.0, abs=0.01)


def test_the_seed_decides_what_is_dropped() -> None:
    def drawn() -> torch.Tensor:
        torch.manual_seed(3)
        return Dropout(0.5).train()(torch.ones(50))

    assert torch.equal(drawn(), drawn())
    assert not torch.equal(drawn(), Dropout(0.5).train()(torch.ones(50)))


def test_the_gradient_flows_through_remaining_elements() -> None:
    ones = torch.ones(1000, requires_grad=True)
    out = Dropout(0.4).train()(ones)
    out.sum().backward()
    assert ones.grad is not None
    assert torch.equal(ones.grad, out.detach())


def test_evaluation_drops_nothing() -> None:
    values = torch.randn(10)
    assert Dropout(0.9).eval()(values) is values
    assert Dropout(0.0).train()(values) is values
