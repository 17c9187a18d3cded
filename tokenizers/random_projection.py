"""The random-projection tokenizer of BEATs' first iteration (arXiv 2212.09058, section 3.2.1).

Notable choices: everything is drawn from the experiment's seed and frozen in buffers; projections have unit variance
for a patch of unit variance, the scale of the codes. ESPnet's variant normalises the projection instead of the patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.data import PatchBatch
from ..core.interfaces import Tokenizer
from .settings import RandomProjectionConfig


class RandomProjection(Tokenizer):
    """Label a patch by the random code that lies nearest to its random projection.

    Args:
        patch_dim: P, numbers per patch
    """

    projection: Tensor
    codebook: Tensor

    def __init__(self, config: RandomProjectionConfig, patch_dim: int) -> None:
        super().__init__(config.codebook_size)
        self.normalize = config.normalize
        codebook = self.seeded_normal(config.codebook_size, config.codebook_dim)
        if self.normalize == "l2":
            codebook = nn.functional.normalize(codebook, dim=-1)
        self.register_buffer("projection", self.seeded_normal(patch_dim, config.codebook_dim) / patch_dim**0.5)
        self.register_buffer("codebook", codebook)

    def forward(self, batch: PatchBatch) -> Tensor:
        patches = batch.patches  # (B, N, P)
        if self.normalize == "layer":
            patches = nn.functional.layer_norm(patches, patches.shape[-1:])
        projected = patches @ self.projection  # (B, N, d)
        if self.normalize == "l2":
            projected = nn.functional.normalize(projected, dim=-1)
        return nearest_code(projected, self.codebook)


def nearest_code(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Find the code at the smallest Euclidean distance: (…, d) and (K, d) to (…) int64.

    |v − c|² = |v|² − 2 v·c + |c|², whose first term is the same for every code.
    """
    affinity = torch.addmm(codebook.square().sum(-1).neg(), vectors.flatten(0, -2), codebook.T, alpha=2.0)
    return affinity.argmax(-1).view(vectors.shape[:-1])
