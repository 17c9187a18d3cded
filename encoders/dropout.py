"""Dropout that costs little on a CPU.

Notable choices: torch draws a CPU's random numbers one after the other, 64 bits for each element; here 16 bits decide
over an element, so that one draw serves four. The share that is dropped is off by at most 1 / 131,072, and what is kept
is scaled by the share that really is.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_LEVELS: Final = 2**16


class Dropout(nn.Module):
    """Set elements to zero in training, each with probability `p`, and scale the others so that the mean stays."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if on_cpu(x):
            dropped: Tensor = _Dropout.apply(x, self.p)  # type: ignore[no-untyped-call]
            return dropped
        return F.dropout(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def on_cpu(x: Tensor) -> bool:
    """Whether functions written for a CPU serve: not where torch.compile makes its own."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def kept(like: Tensor, p: float) -> tuple[Tensor, float]:
    """Draw which elements of a tensor on the CPU stay, from torch's global generator.

    Returns:
        A bool tensor of the same shape, and the factor that keeps the mean.
    """
    count = like.numel()
    drawn = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    dropped_levels = round(p * _LEVELS)
    stays = drawn.view(torch.int16)[:count].view(like.shape) >= dropped_levels - _LEVELS // 2
    return stays, _LEVELS / (_LEVELS - dropped_levels)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        stays, ctx.factor = kept(x, p)
        ctx.save_for_backward(stays)
        return (x * stays).mul_(ctx.factor)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (stays,) = ctx.saved_tensors
        return (gradient * stays).mul_(ctx.factor), None
