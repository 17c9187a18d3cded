"""The encoder of BEATs (arXiv 2212.09058, section 4.2).

Notable choices:

- Only visible patches pass through the layers. Each keeps its true position in both position embeddings.
- The convolutional position embedding scales visible neighbours up to make up for the hidden ones, so that its sums
  have the same mean in training and in use.
- The patch embedding is a matrix product with the flattened patch, which equals the paper's convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.data import Encoded, PatchBatch, VisiblePatches
from ..core.errors import PluginError
from ..core.interfaces import Encoder
from .conv_position import ConvPosition
from .dropout import Dropout
from .encoder_config import BeatsConfig
from .layers import TransformerStack
from .scatter import gather


class PatchStem(nn.Module):
    """Embed, normalise and project patches.

    Args:
        patch_dim: numbers per patch
        patch_width: size of the embedding
        width: size of the output; there is no projection if it equals `patch_width`
        bias: whether the embedding has a bias
        dropout: dropout probability of the output
    """

    def __init__(self, patch_dim: int, patch_width: int, width: int, *, bias: bool, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(patch_dim, patch_width, bias=bias)
        self.norm = nn.LayerNorm(patch_width)
        self.project = nn.Linear(patch_width, width) if patch_width != width else nn.Identity()
        self.dropout = Dropout(dropout)

    def forward(self, patches: Tensor) -> Tensor:
        """Embed patches: (B, N, P) to (B, N, D)."""
        out: Tensor = self.dropout(self.project(self.norm(self.embed(patches))))
        return out


class Beats(Encoder):
    """Encode patches with BEATs' Transformer.

    Args:
        patch_dim: numbers per patch
        bands: patches per time column
    """

    def __init__(self, config: BeatsConfig, patch_dim: int, bands: int) -> None:
        super().__init__()
        shape = config.shape
        self.config = config
        self.width = shape.width
        self.bands = bands
        self.stem = PatchStem(
            patch_dim, shape.patch_width, shape.width, bias=config.patch_bias, dropout=config.input_dropout
        )
        self.conv_position = ConvPosition(
            shape.width, kernel=config.conv_position_kernel, groups=config.conv_position_groups
        )
        self.stack = TransformerStack(config.stack)

    def forward(self, batch: PatchBatch, *, visible: VisiblePatches | None = None, layers: bool = False) -> Encoded:
        """Encode all patches, or only the visible ones, each at its true position in the grid.

        Raises:
            PluginError: if the number of bands differs from the one that this encoder was built for
        """
        if batch.grid.bands != self.bands:
            raise PluginError(f"this encoder was built for {self.bands} bands, but the patches have {batch.grid.bands}")
        patches, valid, positions = batch.patches, batch.valid, None
        if visible is not None:
            patches = gather(patches, visible.index)
            valid = visible.valid & valid.gather(1, visible.index)
            positions = visible.index if self.config.positions == "true" else None
        sequence = self.stem(patches).masked_fill(~valid[..., None], 0.0)
        sequence = sequence + self._conv_position(sequence, valid, positions, batch)
        sequence, kept = self.stack(sequence, valid=valid, positions=positions, layers=layers)
        return Encoded(sequence, valid, batch.grid, kept)

    def depths(self) -> Sequence[Sequence[nn.Module]]:
        below, *layers = self.stack.depths()
        return [[self.stem, self.conv_position, *below], *layers]

    def _conv_position(self, sequence: Tensor, seen: Tensor, positions: Tensor | None, batch: PatchBatch) -> Tensor:
        embedding: Tensor
        if positions is None:
            embedding = self.conv_position(sequence)
        else:
            others, shown = batch.valid.sum(1) - 1, seen.sum(1) - 1
            scale = torch.where(shown > 0, others / shown.clamp(min=1), 1.0)
            embedding = self.conv_position.among_hidden(sequence, positions, batch.grid.patches, scale=scale)
        return embedding
