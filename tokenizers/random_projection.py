"""Random-projection tokenizers: BEATs' first iteration (arXiv 2212.09058, section 3.2.1) and BEST-RQ (2202.01855).

Notable choices:

- Projection and codes are drawn from the seed of the experiment and frozen in buffers.
- The projection of a patch with unit variance has unit variance, the scale of the codes. ESPnet's variant normalises
  the projection instead of the patch.
- With several codebooks, as for USM's multi-softmax loss (arXiv 2303.01037), each has a separate projection.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.data import PatchBatch
from ..core.interfaces import Tokenizer
from .nearest import nearest_code
from .tokenizer_config import RandomProjectionConfig


class RandomProjection(Tokenizer):
    """Give a patch the random code nearest to its random projection, in every codebook.

    Args:
        patch_dim: P, numbers per patch
    """

    projection: Tensor
    codebook: Tensor

    def __init__(self, config: RandomProjectionConfig, patch_dim: int) -> None:
        super().__init__(config.codebook_size, config.codebooks)
        self.normalize = config.normalize
        # Codebooks are stacked, (G K, d), and projections concatenated, (P, G d).
        codebook = self.seeded_normal(config.codebooks * config.codebook_size, config.codebook_dim)
        if self.normalize == "l2":
            codebook = nn.functional.normalize(codebook, dim=-1)
        projection = self.seeded_normal(patch_dim, config.codebooks * config.codebook_dim)
        self.register_buffer("projection", projection / patch_dim**0.5)
        self.register_buffer("codebook", codebook)

    def forward(self, batch: PatchBatch) -> Tensor:
        patches = batch.patches  # (B, N, P)
        if self.normalize == "layer":
            patches = nn.functional.layer_norm(patches, patches.shape[-1:])
        projected = (patches @ self.projection).chunk(self.streams, dim=-1)
        codebooks = self.codebook.chunk(self.streams)
        tokens = [self._nearest(*pair) for pair in zip(projected, codebooks, strict=True)]
        return tokens[0] if self.streams == 1 else torch.stack(tokens, dim=-1)

    def _nearest(self, projected: Tensor, codebook: Tensor) -> Tensor:
        if self.normalize == "l2":
            projected = nn.functional.normalize(projected, dim=-1)
        return nearest_code(projected, codebook)
