"""Finite scalar quantisation: values computed by hand, a slow second implementation, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.tokenizers.finite_scalar import FiniteScalar
from ossicle.tokenizers.tokenizer_config import FsqDistilledConfig


@pytest.mark.parametrize(
    ("levels", "vector", "number", "code"),
    [
        # Three levels: tanh(z) · 0.999, rounded to -1, 0 or 1.
        ((3,), (0.0,), 1, (0.0,)),
        ((3,), (0.5,), 1, (0.0,)),  # 0.4617
        ((3,), (0.56,), 2, (1.0,)),  # 0.5075
        ((3,), (-1.0,), 0, (-1.0,)),
        # Four levels: tanh(z + 0.34695) · 1.4985 - 0.5, rounded to -2, -1, 0 or 1, and halved.
        ((4,), (0.0,), 2, (0.0,)),
        ((4,), (1.0,), 3, (0.5,)),  # 0.8088
        ((4,), (-0.6,), 1, (-0.5,)),  # -0.8713
        ((4,), (-10.0,), 0, (-1.0,)),  # -1.9985
        ((4,), (10.0,), 3, (0.5,)),  # 0.9985
        # The first digit counts ones, the second counts threes.
        ((3, 4), (1.0, -10.0), 2 + 3 * 0, (1.0, -1.0)),
        ((3, 4), (-1.0, 10.0), 0 + 3 * 3, (-1.0, 0.5)),
        ((3, 4, 5), (0.0, 0.0, 10.0), 1 + 3 * 2 + 12 * 4, (0.0, 0.0, 1.0)),
    ],
)
def test_codes_computed_by_hand(
    levels: tuple[int, ...], vector: tuple[float, ...], number: int, code: tuple[float, ...]
) -> None:
    made = FiniteScalar(levels)
    found = made(made.to_code_space(torch.tensor([[vector]])))
    assert found.ids.tolist() == [[number]]
    torch.testing.assert_close(found.vectors, torch.tensor([[code]]))
    assert not found.commitment.any()


@settings(max_examples=60, deadline=None)
@given(levels=st.lists(st.integers(3, 9), min_size=1, max_size=4), seed=st.integers(0, 2**31), scale=st.floats(0, 20))
def test_each_number_is_rounded_to_the_nearest_level(levels: list[int], seed: int, scale: float) -> None:
    made = FiniteScalar(levels)
    vectors = scale * torch.randn(30, len(levels), generator=torch.Generator().manual_seed(seed))
    points = made.to_code_space(vectors)
    ids = made.nearest(points)
    assert made.size == math.prod(levels)
    assert 0 <= int(ids.min()) <= int(ids.max()) < made.size
    for vector, number in zip(points.double().tolist(), ids.tolist(), strict=True):
        for value, count in zip(vector, levels, strict=True):
            number, digit = divmod(number, count)
            grid = [(level - count // 2) / (count // 2) for level in range(count)]
            distances = [abs(value - point) for point in grid]
            assert distances[digit] == pytest.approx(min(distances), abs=1e-6)
        assert number == 0


def test_gradients_pass_straight_through_only_the_rounding() -> None:
    made, vectors = FiniteScalar((5, 4)), torch.randn(1, 6, 2, requires_grad=True)
    weight = torch.randn(1, 6, 2)
    (through,) = torch.autograd.grad((made(made.to_code_space(vectors)).vectors * weight).sum(), vectors)
    (around,) = torch.autograd.grad((made.to_code_space(vectors) * weight).sum(), vectors)
    torch.testing.assert_close(through, around)
    assert (through != 0).all()


def test_the_start_spreads_vectors_over_the_codes() -> None:
    made = FiniteScalar((8, 5, 5))
    vectors = 3 + 0.01 * torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    assert len(made.nearest(made.to_code_space(vectors)).unique()) == 1
    made.start(vectors)
    assert len(made.nearest(made.to_code_space(vectors)).unique()) > 100


def test_nan_has_a_code_too() -> None:
    made = FiniteScalar((5, 4))
    assert 0 <= int(made.nearest(made.to_code_space(torch.full((1, 2), math.nan)))) < 20


@pytest.mark.parametrize("levels", [(), (2, 5)])
def test_impossible_levels_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="levels"):
        FsqDistilledConfig(levels=levels)
