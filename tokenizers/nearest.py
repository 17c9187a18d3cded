"""Find the nearest code of each vector."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_code(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Find the code at the smallest Euclidean distance: (…, d) and (K, d) to (…) int64.

    |v − c|² = |v|² − 2 v·c + |c|², whose first term is equal for all codes and left out.
    """
    affinity = torch.addmm(codebook.square().sum(-1).neg(), vectors.flatten(0, -2), codebook.T, alpha=2.0)
    return affinity.argmax(-1).view(vectors.shape[:-1])
