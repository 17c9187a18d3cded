"""Masks hide exactly the share asked for, and never padding."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ossicle.tasks.masking import uniform_mask, visible_places


def valid_of(counts: list[int], width: int) -> Tensor:
    return torch.arange(width) < torch.tensor(counts)[:, None]


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(0, 70), min_size=1, max_size=6),
    ratio=st.floats(0.01, 0.99),
    padding=st.integers(0, 9),
    seed=st.integers(0, 2**31),
)
def test_the_mask_is_exact(counts: list[int], ratio: float, padding: int, seed: int) -> None:
    torch.manual_seed(seed)
    valid = valid_of(counts, max(counts) + padding)

    visible, hidden = uniform_mask(valid, ratio)

    seen = [set(index[real].tolist()) for index, real in zip(visible.index, visible.valid, strict=True)]
    for count, places, row in zip(counts, seen, hidden, strict=True):
        covered = set(row.nonzero().flatten().tolist())
        assert not covered & places
        assert covered | places == set(range(count))
        if count > 1:
            assert 1 <= len(covered) <= count - 1
            # Half a patch either way is rounding; more only where one must stay hidden or visible.
            expected = min(max(ratio * count, 1), count - 1)
            assert abs(len(covered) - expected) <= 0.5 + 1e-4
        else:
            assert not covered
    assert visible.index.shape[1] == max(map(len, seen))
    assert all((index[real].diff() > 0).all() for index, real in zip(visible.index, visible.valid, strict=True))
    assert (visible.index[~visible.valid] == 0).all()


def test_padding_may_lie_anywhere() -> None:
    valid = torch.rand(8, 40) < 0.5
    visible, hidden = uniform_mask(valid, 0.75)
    assert not (hidden & ~valid).any()
    assert valid.gather(1, visible.index)[visible.valid].all()
    assert torch.equal(hidden.sum(1) + visible.valid.sum(1), valid.sum(1))


def test_every_patch_is_hidden_equally_often() -> None:
    torch.manual_seed(0)
    share = uniform_mask(torch.ones(4000, 12, dtype=torch.bool), 0.75)[1].float().mean(0)
    assert (share - 0.75).abs().max() < 4 * (0.75 * 0.25 / 4000) ** 0.5


def test_clips_of_a_batch_get_masks_of_their_own_and_a_seed_repeats_them() -> None:
    valid = torch.ones(4, 64, dtype=torch.bool)
    torch.manual_seed(3)
    _, one = uniform_mask(valid, 0.5)
    _, two = uniform_mask(valid, 0.5)
    torch.manual_seed(3)
    _, again = uniform_mask(valid, 0.5)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    assert not torch.equal(one[0], one[1])


def test_visible_places_of_nothing() -> None:
    places = visible_places(torch.zeros(2, 5, dtype=torch.bool))
    assert places.index.shape == places.valid.shape == (2, 0)
