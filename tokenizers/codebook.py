"""A codebook on the unit sphere that follows its vectors by exponential moving averages (VQ-VAE's EMA variant).

Notable choices: codes are fp32 buffers, which an optimiser never touches and mixed precision never rounds; statistics
are summed over all ranks, so that every rank holds the same codes; nothing is written outside training. The released
code updates its usage counts in evaluation too, and starts itself by k-means inside `forward`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core.distributed import copy_from_first_rank, sum_over_ranks
from .kmeans import spherical_kmeans


class EmaCodebook(nn.Module):
    """K unit vectors; a vector is coded by the nearest one (BEATs, equations 2 to 5; released code).

    Args:
        size: K
        dim: d, numbers per code
        decay: share of a code that survives an update
        revive_below: codes used less often than this per batch, on average, are put where a random vector of the batch
            lies; 0 leaves unused codes where they are
    """

    codes: Tensor
    usage: Tensor

    def __init__(self, size: int, dim: int, *, decay: float = 0.99, revive_below: float = 0.0) -> None:
        super().__init__()
        self.decay = decay
        self.revive_below = revive_below
        self.register_buffer("codes", normalize(torch.randn(size, dim), dim=-1))
        self.register_buffer("usage", torch.zeros(size))

    def nearest(self, vectors: Tensor) -> Tensor:
        """Find the code of unit vectors: (…, d) to (…) int64."""
        return (vectors.float() @ self.codes.T).argmax(-1)

    @torch.no_grad()
    def start(self, vectors: Tensor, *, rounds: int) -> None:
        """Put the codes where k-means finds clusters, the same on every rank: (n, d) unit vectors."""
        drawn = torch.randperm(len(vectors), device=vectors.device)[: len(self.codes)]
        # Fewer vectors than codes: some start on the same vector.
        drawn = drawn[torch.arange(len(self.codes), device=vectors.device) % len(drawn)]
        centres, counts = spherical_kmeans(vectors.float(), vectors[drawn].float(), rounds=rounds)
        self.codes.copy_(centres)
        self.usage.copy_(counts)
        copy_from_first_rank(self.codes, self.usage)

    @torch.no_grad()
    def update(self, vectors: Tensor, ids: Tensor) -> None:
        """Move each used code towards the mean of its vectors: (n, d) unit vectors and their codes (n,) int64."""
        vectors = vectors.float()
        counts = torch.bincount(ids, minlength=len(self.codes)).float()
        sums = torch.zeros_like(self.codes).index_add_(0, ids, vectors)
        sum_over_ranks(counts, sums)
        moved = torch.lerp(normalize(sums, dim=-1), self.codes, self.decay)
        self.codes.copy_(normalize(torch.where(counts[:, None] > 0, moved, self.codes), dim=-1))
        self.usage.lerp_(counts, 1 - self.decay)
        if self.revive_below > 0:
            self._revive(vectors)

    def _revive(self, vectors: Tensor) -> None:
        dead = self.usage < self.revive_below
        drawn = vectors[torch.randint(len(vectors), (len(self.codes),), device=vectors.device)]
        copy_from_first_rank(drawn)
        self.codes.copy_(torch.where(dead[:, None], drawn, self.codes))
        self.usage.masked_fill_(dead, self.revive_below)
