"""The guess of tokens from the level: what it finds, and what it cannot find."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ossicle.core.data import Grid, PatchBatch
from ossicle.tasks.objectives.level_guess import LevelGuess

BANDS, COLUMNS, CODES = 2, 10, 4


def clips(levels: Tensor) -> PatchBatch:
    """Clips whose patches have nearly the given mean."""
    grid = Grid(COLUMNS, BANDS)
    patches = levels[:, None, None] + 0.01 * torch.randn(len(levels), grid.patches, 6)
    return PatchBatch(patches, torch.ones(len(levels), grid.patches, dtype=torch.bool), grid)


def average_loss(tokens_of_level: bool, *, batches: int = 30, codes: int = CODES) -> float:
    """The loss per hidden patch of the last batch."""
    torch.manual_seed(0)
    guess = LevelGuess(BANDS, 1, codes)
    for _ in range(batches):
        kinds = torch.randint(codes, (16,))
        batch = clips(kinds.float())
        tokens = torch.randint(codes, (16, COLUMNS * BANDS, 1))
        if tokens_of_level:
            tokens = kinds[:, None, None].expand_as(tokens)
        hidden = torch.rand(16, COLUMNS * BANDS) < 0.5
        loss = float(guess(batch, tokens, hidden)) / int(hidden.sum())
    return loss


def test_tokens_that_depend_on_the_level_are_guessed() -> None:
    assert average_loss(tokens_of_level=True) < 0.05


def test_tokens_that_are_independent_of_the_level_cost_their_entropy() -> None:
    assert average_loss(tokens_of_level=False) == pytest.approx(math.log(CODES), abs=0.03)


def test_a_batch_is_scored_before_it_is_learnt_from() -> None:
    guess = LevelGuess(BANDS, 2, CODES)
    batch, tokens = clips(torch.zeros(3)), torch.zeros(3, COLUMNS * BANDS, 2, dtype=torch.int64)
    hidden = torch.ones(3, COLUMNS * BANDS, dtype=torch.bool)
    hidden[:, :2] = False
    assert float(guess(batch, tokens, hidden)) == pytest.approx(int(hidden.sum()) * math.log(CODES), rel=1e-4)
    assert float(guess(batch, tokens, hidden)) < 0.2 * int(hidden.sum()) * math.log(CODES)


def test_evaluation_learns_nothing() -> None:
    guess = LevelGuess(BANDS, 1, CODES).eval()
    hidden = torch.ones(1, COLUMNS * BANDS, dtype=torch.bool)
    guess(clips(torch.zeros(1)), torch.zeros(1, COLUMNS * BANDS, 1, dtype=torch.int64), hidden)
    assert not guess.sums.any()


def test_the_cost_of_label_smoothing_is_included() -> None:
    """With all tokens equally likely, smoothing does not change the cost."""
    guess = LevelGuess(BANDS, 1, CODES).eval()
    hidden = torch.ones(1, COLUMNS * BANDS, dtype=torch.bool)
    tokens = torch.zeros(1, COLUMNS * BANDS, 1, dtype=torch.int64)
    costs = [float(guess(clips(torch.zeros(1)), tokens, hidden, label_smoothing=share)) for share in (0.0, 0.3)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-4)
