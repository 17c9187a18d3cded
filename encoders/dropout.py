"""Fast dropout on a CPU.

Notable choices:

- One 64-bit random number serves four elements, because 16 bits decide each. torch draws 64 bits for every element.
- numpy draws the numbers, three times as fast as torch.
- The dropout probability is off by at most 1 / 131,072. The scale uses the exact probability.
- The backward pass draws the same numbers again, so only their seed is stored.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
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
    """Whether to use the implementations for CPUs. `torch.compile` generates code of the standard ones."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def draw_seed() -> int:
    """Draw a seed for `kept` from torch's global generator."""
    return int(torch.empty((), dtype=torch.int64).random_())


def kept(like: Tensor, p: float, seed: int) -> Tensor:
    """Decide which elements of a tensor on the CPU stay, the same for the same seed: 1 or 0, in its shape and dtype."""
    count = like.numel()
    drawn = torch.from_numpy(np.random.SFC64(seed).random_raw((count + 3) // 4).view(np.int16))
    return drawn[:count].view(like.shape).ge_(_dropped_levels(p) - _LEVELS // 2).to(like.dtype)


def scale(p: float) -> float:
    """The factor for the elements that stay, which preserves the mean."""
    return _LEVELS / (_LEVELS - _dropped_levels(p))


def _dropped_levels(p: float) -> int:
    return round(p * _LEVELS)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.p, ctx.seed = p, draw_seed()
        return kept(x, p, ctx.seed).mul_(x).mul_(scale(p))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return kept(gradient, ctx.p, ctx.seed).mul_(gradient).mul_(scale(ctx.p)), None
