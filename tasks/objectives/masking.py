"""Choose which patches an encoder may see.

Notable choices:

- A masking is an order of patches, so every masking hides exactly the configured share.
- Blocks are drawn without replacement. Each real patch defines, in random order, the block around it, and a patch
  belongs to the first block that covers it.
- The hidden patches of a clip depend only on the random number of the clip, not on its batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...core.data import Grid, PatchBatch, VisiblePatches
from .masking_config import (
    BlockMaskingConfig,
    FrequencyMaskingConfig,
    InverseBlockMaskingConfig,
    TimeMaskingConfig,
    UniformMaskingConfig,
)

_LARGEST = 2**63 - 1
_BEYOND = 2**31  # higher than any rank
_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed number


class Masking(ABC):
    """Chooses which patches of a training clip are hidden. The objective sets their number.

    A masking draws no random numbers, so the mask of a clip does not depend on its batch or the number of processes.
    """

    @abstractmethod
    def order(self, ranks: Tensor, grid: Grid) -> Tensor:
        """Order the patches of each clip: (B, N) int64. The patches with the lowest numbers stay visible.

        The order of equal numbers is undefined.

        Args:
            ranks: (B, N) int64, a random permutation for each clip. Real patches have the numbers from 0 on, and
                padding has the numbers after those.
            grid: the layout of the N patches
        """


class Uniform(Masking):
    """Hide patches one by one."""

    def __init__(self, config: UniformMaskingConfig) -> None:
        self.config = config

    def order(self, ranks: Tensor, grid: Grid) -> Tensor:
        return ranks


class Block(Masking):
    """Hide blocks of neighbouring patches."""

    def __init__(self, config: BlockMaskingConfig) -> None:
        self.config = config

    def order(self, ranks: Tensor, grid: Grid) -> Tensor:
        return -by_block(ranks, grid, columns=self.config.columns, bands=self.config.bands)


class InverseBlock(Masking):
    """Show blocks of neighbouring patches."""

    def __init__(self, config: InverseBlockMaskingConfig) -> None:
        self.config = config

    def order(self, ranks: Tensor, grid: Grid) -> Tensor:
        return by_block(ranks, grid, columns=self.config.columns, bands=self.config.bands)


class Time(Masking):
    """Hide whole time columns."""

    def __init__(self, config: TimeMaskingConfig) -> None:
        self.config = config

    def order(self, ranks: Tensor, grid: Grid) -> Tensor:
        return -by_block(ranks, grid, columns=self.config.columns, bands=None)


class Frequency(Masking):
    """Hide whole frequency bands."""

    def __init__(self, config: FrequencyMaskingConfig) -> None:
        self.config = config

    def order(self, ranks: Tensor, grid: Grid) -> Tensor:
        return -by_block(ranks, grid, columns=None, bands=self.config.bands)


def mask(batch: PatchBatch, mask_ratio: float, masking: Masking) -> tuple[VisiblePatches, Tensor]:
    """Hide a share of each clip's patches.

    Of n valid patches, round(`mask_ratio` · n) are hidden. At least one stays visible, and of two or more at least one
    is hidden. Random numbers derive from the clips' `draws`, or without them from torch's global generator.

    Returns:
        The visible patches, and `hidden`, (B, N) bool.
    """
    valid = batch.valid
    count = valid.sum(1)  # (B,)
    hidden_count = (count * mask_ratio).round().long().clamp(min=1)
    visible_count = torch.where(count > 1, (count - hidden_count).clamp(min=1), count)
    draws = torch.randint(_LARGEST, count.shape, device=valid.device) if batch.draws is None else batch.draws
    ranks = _ranks(_noise(draws, valid.shape[1]), valid)
    seen = valid & (_ranks(masking.order(ranks, batch.grid), valid) < visible_count.unsqueeze(1))
    return positions_of(seen), valid & ~seen


def by_block(ranks: Tensor, grid: Grid, *, columns: int | None, bands: int | None) -> Tensor:
    """Order patches by the first block that covers them, and within a block by rank: (B, N) int64.

    Args:
        ranks: as in `Masking.order`
        columns, bands: size of a block; the size of the grid if None
    """
    first = rearrange(ranks, "b (c f) -> b c f", f=grid.bands)
    for axis, size in ((1, columns), (2, bands)):
        first = _lowest_nearby(first, axis, size)
    return rearrange(first, "b c f -> b (c f)") * ranks.shape[1] + ranks


def _lowest_nearby(numbers: Tensor, axis: int, size: int | None) -> Tensor:
    """Return the minimum in a window around each position along an axis, or of the whole axis if `size` is None."""
    if size is None:
        return numbers.amin(axis, keepdim=True).expand_as(numbers)
    around = [0, 0] * (numbers.dim() - 1 - axis) + [size // 2, size - 1 - size // 2]
    return F.pad(numbers, around, value=_BEYOND).unfold(axis, size, 1).amin(-1)


def _ranks(order: Tensor, valid: Tensor) -> Tensor:
    """Rank each clip's patches in ascending order, with padding last: (B, N) int64 to (B, N) int64."""
    positions = order.masked_fill(~valid, _LARGEST).argsort(dim=1, stable=True)
    return torch.empty_like(positions).scatter_(
        1, positions, torch.arange(valid.shape[1], device=valid.device).expand_as(positions)
    )


def _noise(draws: Tensor, count: int) -> Tensor:
    """Hash the draw of each clip and the position to a random number for every patch: (B,) to (B, count) int64.

    The hash is SplitMix64 (Steele, Lea & Flood, 2014), which gives the same numbers on every device.
    """
    position = torch.arange(1, count + 1, device=draws.device)
    mixed = draws[:, None] + position * _GOLDEN
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return _shifted(mixed ^ _shifted(mixed, 31), 1)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """Shift 64-bit numbers to the right as if they were unsigned."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)


def positions_of(seen: Tensor) -> VisiblePatches:
    """Return the positions where `seen`, (B, N) bool, is true, in ascending order."""
    width = int(seen.sum(1).max()) if seen.numel() else 0
    index = seen.int().argsort(dim=1, descending=True, stable=True)[:, :width]  # (B, V)
    real = seen.gather(1, index)
    return VisiblePatches(index.masked_fill(~real, 0), real)
