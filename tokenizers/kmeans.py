"""k-means on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def spherical_kmeans(samples: Tensor, start: Tensor, *, rounds: int) -> tuple[Tensor, Tensor]:
    """Cluster unit vectors by cosine; a cluster that loses all its members keeps its centre.

    Args:
        samples: (n, d) of unit length
        start: (K, d) first centres, of unit length

    Returns:
        Centres (K, d) of unit length, and the members of each cluster in the last round, (K,) int64.
    """
    centres, counts = start.clone(), samples.new_zeros(len(start), dtype=torch.int64)
    for _ in range(rounds):
        nearest = (samples @ centres.T).argmax(-1)
        counts = torch.bincount(nearest, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, nearest, samples)
        centres = torch.where(counts[:, None] > 0, normalize(sums, dim=-1), centres)
    return centres, counts
