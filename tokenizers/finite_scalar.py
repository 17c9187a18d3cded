"""Finite scalar quantisation: a code is a point of a fixed grid (arXiv 2309.15505, section 3).

Notable choices:

- For an even number of levels, the paper's listing shifts the bound by a tangent. We use the inverse hyperbolic
  tangent, which maps zero to zero.
- Before training, each number is standardised over the first vectors. Otherwise all vectors start at the same code.
- Codes do not move, and there is no commitment loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.choices import PartChoice
from ..core.distributed import copy_from_first_rank
from .distilled import Distilled
from .quantiser import Quantised, Quantiser, straight_through
from .tokenizer_config import FsqDistilledConfig

MARGIN = 1e-3
"""Relative distance of the bound from the outermost levels."""


class FiniteScalar(Quantiser):
    """Round each of d numbers to one of a few levels. A code is a combination of levels.

    Args:
        levels: number of levels of each number, 3 or more
    """

    levels: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.size, self.dim = math.prod(levels), len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("std", torch.ones(self.dim))

    @property
    def _half(self) -> Tensor:
        """The number of levels below zero, which scales codes into [-1, 1]."""
        return self.levels // 2

    @property
    def _weights(self) -> Tensor:
        """The change of the code id for one step of each number."""
        return torch.cumprod(self.levels, 0) // self.levels

    def to_code_space(self, vectors: Tensor) -> Tensor:
        """Bound each number so that it rounds to one of its levels, and scale it into [-1, 1]."""
        reach = (self.levels - 1) * (1 - MARGIN) / 2
        offset = 0.5 * (self.levels % 2 == 0)
        standard = (vectors.float() - self.mean) / self.std
        bounded = torch.tanh(standard + torch.atanh(offset / reach)) * reach - offset
        return bounded / self._half

    @torch.no_grad()
    def start(self, vectors: Tensor, *, per_batch: float | None = None) -> None:
        """Standardise every number over these vectors, the same on every rank."""
        self.mean.copy_(vectors.mean(0))
        self.std.copy_(vectors.std(0, correction=0).clamp_min(1e-5))
        copy_from_first_rank(self.mean, self.std)

    def nearest(self, points: Tensor) -> Tensor:
        digits = (self._rounded(points) + self._half).long()
        # NaN needs a code, too, as in a search for the nearest code.
        digits = torch.minimum(digits.clamp(min=0), self.levels - 1)
        return (digits * self._weights).sum(-1)

    def forward(self, points: Tensor) -> Quantised:
        codes = self._rounded(points) / self._half
        return Quantised(straight_through(points, codes), self.nearest(points), torch.zeros_like(points[..., 0]))

    def _rounded(self, points: Tensor) -> Tensor:
        return (points * self._half).round()


class FsqDistilled(Distilled):
    """Give a patch the grid point to which its encoded and projected vector is rounded.

    Args:
        patch_dim, bands, encoder_choice: as in `Distilled`
    """

    def __init__(self, config: FsqDistilledConfig, patch_dim: int, bands: int, encoder_choice: PartChoice) -> None:
        size, dim = math.prod(config.levels), len(config.levels)
        super().__init__(config, patch_dim, bands, encoder_choice, codebook_size=size, code_dim=dim)
        self.codebook = FiniteScalar(config.levels)
