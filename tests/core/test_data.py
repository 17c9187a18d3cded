"""Batches of patches: the normalisation of clips, compared with a slow implementation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ossicle.core.data import Grid, PatchBatch

BANDS, FRAMES, BINS = 2, 4, 3
"""Patches of 4 frames and 3 mel bins in 2 bands."""


def batch(*columns: int, gain: Tensor | float = 0.0, seed: int = 0) -> PatchBatch:
    grid = Grid(max(columns), BANDS)
    draw = torch.Generator().manual_seed(seed)
    patches = torch.randn(len(columns), grid.patches, FRAMES * BINS, generator=draw)
    patches = (patches.unflatten(-1, (FRAMES, BINS)) + gain).flatten(-2)
    valid = torch.arange(grid.patches) < torch.tensor(columns)[:, None] * BANDS
    return PatchBatch(patches, valid, grid, frames_per_patch=FRAMES)


@pytest.mark.parametrize("deviation", [False, True])
def test_each_mel_bin_is_normalised_over_the_real_frames_of_its_clip(deviation: bool) -> None:
    given = batch(3, 5)
    found = given.normalized(deviation=deviation).patches.unflatten(-1, (FRAMES, BINS))
    clips = given.patches.unflatten(-1, (FRAMES, BINS))
    for clip, columns in enumerate((3, 5)):
        for band in range(BANDS):
            for bin_ in range(BINS):
                places = [column * BANDS + band for column in range(columns)]
                values = clips[clip, places, :, bin_]
                expected = values - values.mean()
                if deviation:
                    expected = expected / values.std(correction=0)
                torch.testing.assert_close(found[clip, places, :, bin_], expected, atol=1e-5, rtol=1e-4)


def test_a_constant_gain_of_each_bin_is_removed() -> None:
    loud = batch(4, 2, gain=torch.tensor([3.0, -1.0, 7.0]))
    torch.testing.assert_close(
        loud.normalized(deviation=False).patches, batch(4, 2).normalized(deviation=False).patches, atol=1e-5, rtol=1e-4
    )


def test_a_clip_is_normalised_alike_by_itself_and_in_a_batch() -> None:
    together = batch(2, 6)
    single = PatchBatch(together.patches[:1, :4], together.valid[:1, :4], Grid(2, BANDS), frames_per_patch=FRAMES)
    torch.testing.assert_close(
        together.normalized(deviation=True).patches[:1, :4], single.normalized(deviation=True).patches
    )
    padding = ~together.valid
    assert not together.normalized(deviation=True).patches[padding].any()


def test_silent_bins_stay_small() -> None:
    given = batch(5)
    quiet = given.patches.unflatten(-1, (FRAMES, BINS)).clone()
    quiet[..., 1] *= 1e-9
    silent = PatchBatch(quiet.flatten(-2), given.valid, given.grid, frames_per_patch=FRAMES)
    assert silent.normalized(deviation=True).patches.unflatten(-1, (FRAMES, BINS))[..., 1].abs().max() < 1e-6
