"""Masks hide exactly the configured share, never padding, in the configured shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import ossicle
from ossicle.core.data import Grid, PatchBatch
from ossicle.tasks.objectives.masking import (
    Block,
    Frequency,
    InverseBlock,
    Masking,
    Time,
    Uniform,
    by_block,
    mask,
    positions_of,
)
from ossicle.tasks.objectives.masking_config import (
    BlockMaskingConfig,
    FrequencyMaskingConfig,
    InverseBlockMaskingConfig,
    TimeMaskingConfig,
    UniformMaskingConfig,
)


def uniform() -> Masking:
    return Uniform(UniformMaskingConfig())


MASKINGS = {
    "uniform": uniform(),
    "block": Block(BlockMaskingConfig(columns=3, bands=2)),
    "large block": Block(BlockMaskingConfig(columns=40, bands=40)),
    "inverse block": InverseBlock(InverseBlockMaskingConfig(columns=2, bands=3)),
    "time": Time(TimeMaskingConfig()),
    "wide time": Time(TimeMaskingConfig(columns=4)),
    "frequency": Frequency(FrequencyMaskingConfig()),
    "wide frequency": Frequency(FrequencyMaskingConfig(bands=2)),
}
ANY_MASKING = st.sampled_from(list(MASKINGS.values()))


def batch_of(valid: Tensor, bands: int = 1, draws: Tensor | None = None) -> PatchBatch:
    grid = Grid(valid.shape[1] // bands, bands)
    return PatchBatch(torch.zeros(*valid.shape, 1), valid, grid, draws=draws)


def clips(columns: list[int], bands: int, *, padding: int = 0, seed: int | None = None) -> PatchBatch:
    """Create clips of the given numbers of columns, with `draws` unless the seed is None."""
    valid = torch.arange((max(columns) + padding) * bands) < torch.tensor(columns)[:, None] * bands
    generator = torch.Generator().manual_seed(seed or 0)
    draws = torch.randint(2**62, (len(columns),), generator=generator)
    return batch_of(valid, bands, None if seed is None else draws)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    columns=st.lists(st.integers(0, 20), min_size=1, max_size=5),
    bands=st.integers(1, 5),
    ratio=st.floats(0.01, 0.99),
    padding=st.integers(0, 4),
    seed=st.none() | st.integers(0, 2**31),
    masking=ANY_MASKING,
)
def test_the_share_is_exact(
    columns: list[int], bands: int, ratio: float, padding: int, seed: int | None, masking: Masking
) -> None:
    assume(max(columns) + padding > 0)
    visible, hidden = mask(clips(columns, bands, padding=padding, seed=seed), ratio, masking)

    seen = [set(index[real].tolist()) for index, real in zip(visible.index, visible.valid, strict=True)]
    for count, positions, row in zip([bands * length for length in columns], seen, hidden, strict=True):
        covered = set(row.nonzero().flatten().tolist())
        assert not covered & positions
        assert covered | positions == set(range(count))
        if count > 1:
            assert 1 <= len(covered) <= count - 1
            # Half a patch is rounding. The bounds keep at least one patch hidden and one visible.
            expected = min(max(ratio * count, 1), count - 1)
            assert abs(len(covered) - expected) <= 0.5 + 1e-4
        else:
            assert not covered
    assert visible.index.shape[1] == max(map(len, seen))
    assert all((index[real].diff() > 0).all() for index, real in zip(visible.index, visible.valid, strict=True))
    assert (visible.index[~visible.valid] == 0).all()


@settings(max_examples=100, deadline=None)
@given(
    columns=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    bands=st.integers(1, 5),
    ratio=st.floats(0.1, 0.9),
    padding=st.integers(0, 4),
    seed=st.integers(0, 2**31),
    masking=ANY_MASKING,
)
def test_the_mask_of_a_clip_does_not_depend_on_its_batch(
    columns: list[int], bands: int, ratio: float, padding: int, seed: int, masking: Masking
) -> None:
    together = clips(columns, bands, padding=padding, seed=seed)
    _, hidden = mask(together, ratio, masking)
    for clip, length in enumerate(columns):
        single = clips([length], bands, seed=seed)
        assert together.draws is not None
        single.draws = together.draws[clip : clip + 1]
        assert torch.equal(mask(single, ratio, masking)[1][0], hidden[clip, : length * bands])


@pytest.mark.parametrize("masking", MASKINGS.values(), ids=MASKINGS)
def test_padding_may_be_anywhere(masking: Masking) -> None:
    torch.manual_seed(0)
    valid = torch.rand(8, 40) < 0.5
    visible, hidden = mask(batch_of(valid, bands=4), 0.75, masking)
    assert not (hidden & ~valid).any()
    assert valid.gather(1, visible.index)[visible.valid].all()
    assert torch.equal(hidden.sum(1) + visible.valid.sum(1), valid.sum(1))


def test_every_patch_is_hidden_equally_often() -> None:
    torch.manual_seed(0)
    share = mask(batch_of(torch.ones(4000, 12, dtype=torch.bool)), 0.75, uniform())[1].float().mean(0)
    assert (share - 0.75).abs().max() < 4 * (0.75 * 0.25 / 4000) ** 0.5


@pytest.mark.parametrize("masking", MASKINGS.values(), ids=MASKINGS)
def test_clips_of_a_batch_have_different_masks_and_a_seed_repeats_them(masking: Masking) -> None:
    # A block of the whole grid is cut to the share, so the patches that stay visible differ.
    batch = clips([16] * 4, 4)
    torch.manual_seed(3)
    _, one = mask(batch, 0.5, masking)
    _, two = mask(batch, 0.5, masking)
    torch.manual_seed(3)
    _, again = mask(batch, 0.5, masking)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    assert not torch.equal(one[0], one[1])


def slow_blocks(ranks: list[int], grid: Grid, columns: int, bands: int) -> list[int]:
    """Return the patches of a clip in the order in which blocks around one patch after another cover them."""
    by_rank = sorted(range(grid.patches), key=ranks.__getitem__)
    covered: list[int] = []
    for centre in by_rank:
        middle, band = divmod(centre, grid.bands)
        block = [
            patch
            for patch in by_rank
            if -((columns - 1) // 2) <= patch // grid.bands - middle <= columns // 2
            and -((bands - 1) // 2) <= patch % grid.bands - band <= bands // 2
        ]
        covered += [patch for patch in block if patch not in covered]
    return covered


@pytest.mark.parametrize(("columns", "bands"), [(1, 1), (2, 3), (3, 2), (5, 5), (4, 1)])
def test_blocks_equal_a_slow_implementation(columns: int, bands: int) -> None:
    grid = Grid(7, 4)
    generator = torch.Generator().manual_seed(columns)
    ranks = torch.stack([torch.randperm(grid.patches, generator=generator) for _ in range(5)])
    found = by_block(ranks, grid, columns=columns, bands=bands).argsort(1)
    for clip in range(5):
        assert found[clip].tolist() == slow_blocks(ranks[clip].tolist(), grid, columns, bands)


def test_whole_columns_and_whole_bands_are_hidden() -> None:
    batch = clips([12, 8], 4, seed=5)
    for masking, axis in ((MASKINGS["time"], 2), (MASKINGS["frequency"], 1)):
        _, hidden = mask(batch, 0.5, masking)
        for clip, columns in ((0, 12), (1, 8)):
            grid = hidden[clip, : columns * 4].view(1, columns, 4)
            assert torch.equal(grid.any(axis), grid.all(axis))


def neighbours_alike(hidden: Tensor, grid: Grid) -> float:
    """Compute the share of neighbouring patches that are both hidden or both visible."""
    laid = hidden.view(-1, grid.columns, grid.bands)
    pairs: list[Any] = [laid[:, 1:] == laid[:, :-1], laid[:, :, 1:] == laid[:, :, :-1]]
    return float(torch.cat([pair.flatten() for pair in pairs]).float().mean())


def test_blocks_are_contiguous_and_inverse_blocks_are_visible() -> None:
    batch = clips([20] * 50, 8, seed=1)
    large = {"columns": 4, "bands": 4}
    masks = {
        "uniform": mask(batch, 0.8, uniform())[1],
        "block": mask(batch, 0.8, Block(BlockMaskingConfig(**large)))[1],
        "inverse": mask(batch, 0.8, InverseBlock(InverseBlockMaskingConfig(**large)))[1],
    }
    alike = {name: neighbours_alike(hidden, batch.grid) for name, hidden in masks.items()}
    assert alike["uniform"] == pytest.approx(0.68, abs=0.01)
    assert alike["block"] > 0.75
    assert alike["inverse"] > 0.85
    # Showing blocks with 80 % hidden is the inverse of hiding blocks with 20 % hidden.
    assert torch.equal(masks["inverse"], ~mask(batch, 0.2, Block(BlockMaskingConfig(**large)))[1])


@pytest.mark.usefixtures("own_plugins")
def test_the_documented_masking_shows_the_lowest_bands() -> None:
    text = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text()
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "low_bands" in code]
    made: dict[str, Any] = {"ossicle": ossicle, "torch": torch, "__name__": "documented"}
    exec(example, made)
    visible, _ = mask(clips([6, 3], 4, padding=1), 0.5, made["LowBands"](made["LowBandsConfig"]()))
    assert (visible.index[visible.valid] % 4 < 2).all()


def test_positions_of_an_empty_mask() -> None:
    positions = positions_of(torch.zeros(2, 5, dtype=torch.bool))
    assert positions.index.shape == positions.valid.shape == (2, 0)
