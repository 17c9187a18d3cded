"""A plain Vision Transformer over patches: the baseline for BEATs' encoder.

Notable choices:

- Pre-norm layers without relative bias.
- Fixed sine-cosine positions, half of each vector for the time column and half for the frequency band (as in Audio-MAE,
  Huang et al., 2022).
- The patch embedding has Xavier-uniform initial weights, as in MAE. With torch's default the positions are much larger
  than the patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import repeat
from torch import Tensor, nn

from ..core.data import Encoded, Grid, PatchBatch, VisiblePatches
from ..core.interfaces import Encoder
from .encoder_config import PlainVitConfig
from .layers import TransformerStack
from .scatter import gather


class PlainVit(Encoder):
    """Encode patches with a pre-norm Transformer (Dosovitskiy et al., 2021).

    Args:
        patch_dim: numbers per patch
    """

    def __init__(self, config: PlainVitConfig, patch_dim: int) -> None:
        super().__init__()
        self.config = config
        self.width = config.stack.width
        self.embed = nn.Linear(patch_dim, self.width)
        nn.init.xavier_uniform_(self.embed.weight)
        self.stack = TransformerStack(config.stack)

    def forward(self, batch: PatchBatch, *, visible: VisiblePatches | None = None, layers: bool = False) -> Encoded:
        patches, valid = batch.patches, batch.valid
        positions = sine_cosine(batch.grid, self.width).to(patches)
        positions = repeat(positions, "n d -> b n d", b=patches.shape[0])
        if visible is not None:
            patches, positions = gather(patches, visible.index), gather(positions, visible.index)
            valid = visible.valid & valid.gather(1, visible.index)
        sequence, kept = self.stack(self.embed(patches) + positions, valid=valid, layers=layers)
        return Encoded(sequence, valid, batch.grid, kept)

    def depths(self) -> Sequence[Sequence[nn.Module]]:
        below, *layers = self.stack.depths()
        return [[self.embed, *below], *layers]


def sine_cosine(grid: Grid, width: int) -> Tensor:
    """Give each position of a grid a fixed vector: (N, width) float32; `width` is a multiple of 4."""
    column = torch.arange(grid.patches) // grid.bands
    band = torch.arange(grid.patches) % grid.bands
    return torch.cat([_waves(column, width // 2), _waves(band, width // 2)], dim=1)


def _waves(position: Tensor, width: int) -> Tensor:
    frequency = torch.exp(torch.arange(width // 2) * (-math.log(10000.0) / (width // 2)))
    angle = position[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
