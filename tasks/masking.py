"""Choose which patches an encoder may see."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.data import VisiblePatches


def uniform_mask(valid: Tensor, mask_ratio: float) -> tuple[VisiblePatches, Tensor]:
    """Hide a share of each clip's patches, drawn uniformly (BEATs, section 3.3).

    Of n valid patches round(`mask_ratio` · n) are hidden, but at least one stays visible, and of two or more at least
    one is hidden.

    Args:
        valid: (B, N) bool

    Returns:
        The visible patches, and `hidden`, (B, N) bool.
    """
    count = valid.sum(1)  # (B,)
    hidden_count = (count * mask_ratio).round().long().clamp(min=1)
    visible_count = torch.where(count > 1, (count - hidden_count).clamp(min=1), count)
    order = torch.rand(valid.shape, device=valid.device).masked_fill(~valid, torch.inf).argsort(1)  # (B, N)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(valid.shape[1], device=valid.device).expand_as(order)
    )
    seen = valid & (rank < visible_count.unsqueeze(1))
    return visible_places(seen), valid & ~seen


def visible_places(seen: Tensor) -> VisiblePatches:
    """The places at which `seen`, (B, N) bool, holds, in ascending order."""
    width = int(seen.sum(1).max()) if seen.numel() else 0
    index = seen.int().argsort(dim=1, descending=True, stable=True)[:, :width]  # (B, V)
    real = seen.gather(1, index)
    return VisiblePatches(index.masked_fill(~real, 0), real)
