"""Choose which patches an encoder may see."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.data import VisiblePatches

_LARGEST = 2**63 - 1
_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed number


def uniform_mask(valid: Tensor, mask_ratio: float, draws: Tensor | None = None) -> tuple[VisiblePatches, Tensor]:
    """Hide a share of each clip's patches, drawn uniformly (BEATs, section 3.3).

    Of n valid patches round(`mask_ratio` · n) are hidden, but at least one stays visible, and of two or more at least
    one is hidden.

    Args:
        valid: (B, N) bool
        draws: (B,) int64 random numbers that decide what is hidden; torch's global generator does when None

    Returns:
        The visible patches, and `hidden`, (B, N) bool.
    """
    count = valid.sum(1)  # (B,)
    hidden_count = (count * mask_ratio).round().long().clamp(min=1)
    visible_count = torch.where(count > 1, (count - hidden_count).clamp(min=1), count)
    noise = (
        torch.randint(_LARGEST, valid.shape, device=valid.device) if draws is None else _noise(draws, valid.shape[1])
    )
    order = noise.masked_fill(~valid, _LARGEST).argsort(1)  # (B, N)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(valid.shape[1], device=valid.device).expand_as(order)
    )
    seen = valid & (rank < visible_count.unsqueeze(1))
    return visible_places(seen), valid & ~seen


def _noise(draws: Tensor, count: int) -> Tensor:
    """A random number for every patch that depends on its clip's draw and its place alone: (B,) to (B, count) int64.

    SplitMix64 (Steele, Lea & Flood, 2014): the same on every device.
    """
    place = torch.arange(1, count + 1, device=draws.device)
    mixed = draws[:, None] + place * _GOLDEN
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed = (mixed ^ _shifted(mixed, shift)) * factor
    return _shifted(mixed ^ _shifted(mixed, 31), 1)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """Shift 64-bit numbers to the right as if they were unsigned."""
    return (numbers >> by) & ((1 << (64 - by)) - 1)


def visible_places(seen: Tensor) -> VisiblePatches:
    """The places at which `seen`, (B, N) bool, holds, in ascending order."""
    width = int(seen.sum(1).max()) if seen.numel() else 0
    index = seen.int().argsort(dim=1, descending=True, stable=True)[:, :width]  # (B, V)
    real = seen.gather(1, index)
    return VisiblePatches(index.masked_fill(~real, 0), real)
