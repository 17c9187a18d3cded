"""A codebook that follows its vectors by exponential moving averages (VQ-VAE's EMA variant).

Notable choices: codes are fp32 buffers, which an optimiser never touches and mixed precision never rounds; statistics
are summed over all ranks, so that every rank holds the same codes; nothing is written outside training. The released
code updates its usage counts in evaluation too, and starts itself by k-means inside `forward`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..core.distributed import copy_from_first_rank, sum_over_ranks
from .clustering import flat_kmeans, spherical_kmeans
from .nearest import nearest_code
from .quantiser import Quantised, Quantiser, straight_through


class EmaCodebook(Quantiser):
    """K vectors; a vector is coded by the nearest one (BEATs, equations 2 to 5; released code).

    Args:
        size: K
        dim: d, numbers per code
        decay: share of a code that survives an update
        revive_below: codes used less often than this per batch, on average, are put where a random vector of the batch
            lies; 0 leaves unused codes where they are
        spherical: whether vectors and codes have unit length, as in BEATs, so that the nearest is so by cosine
        kmeans_rounds: rounds of k-means that start the codes
    """

    codes: Tensor
    usage: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        decay: float = 0.99,
        revive_below: float = 0.0,
        spherical: bool = True,
        kmeans_rounds: int = 10,
    ) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self.decay = decay
        self.revive_below = revive_below
        self.spherical = spherical
        self.kmeans_rounds = kmeans_rounds
        self.register_buffer("codes", self.to_code_space(torch.randn(size, dim)))
        self.register_buffer("usage", torch.zeros(size))

    def to_code_space(self, vectors: Tensor) -> Tensor:
        return normalize(vectors.float(), dim=-1) if self.spherical else vectors.float()

    def nearest(self, points: Tensor) -> Tensor:
        if self.spherical:
            return (points.float() @ self.codes.T).argmax(-1)
        return nearest_code(points.float(), self.codes)

    def forward(self, points: Tensor) -> Quantised:
        ids = self.nearest(points)
        codes = self.codes[ids]
        return Quantised(straight_through(points, codes), ids, (codes - points).square().mean(-1))

    @torch.no_grad()
    def start(self, vectors: Tensor) -> None:
        """Put the codes where k-means finds clusters, the same on every rank; needs one vector at least."""
        points, rounds = self.to_code_space(vectors), self.kmeans_rounds
        if self.spherical:
            drawn = torch.randperm(len(points), device=points.device)[: self.size]
            # Fewer vectors than codes: some start on the same vector.
            drawn = drawn[torch.arange(self.size, device=points.device) % len(drawn)]
            centres, counts = spherical_kmeans(points, points[drawn], rounds=rounds)
        else:
            centres, counts = flat_kmeans(points, self.size, rounds=rounds, seed=int(torch.randint(2**31, ())))
        self.codes.copy_(centres)
        self.usage.copy_(counts)
        copy_from_first_rank(self.codes, self.usage)

    @torch.no_grad()
    def update(self, points: Tensor, ids: Tensor) -> None:
        """Move each used code towards the mean of its vectors."""
        points = points.float()
        counts = torch.bincount(ids, minlength=self.size).float()
        sums = torch.zeros_like(self.codes).index_add_(0, ids, points)
        sum_over_ranks(counts, sums)
        # On the sphere the mean's direction counts alone, and dividing would only cost precision.
        means = normalize(sums, dim=-1) if self.spherical else sums / counts.clamp(min=1.0)[:, None]
        moved = torch.lerp(means, self.codes, self.decay)
        self.codes.copy_(self.to_code_space(torch.where(counts[:, None] > 0, moved, self.codes)))
        self.usage.lerp_(counts, 1 - self.decay)
        if self.revive_below > 0:
            self._revive(points)

    def _revive(self, points: Tensor) -> None:
        dead = self.usage < self.revive_below
        drawn = points[torch.randint(len(points), (self.size,), device=points.device)]
        copy_from_first_rank(drawn)
        self.codes.copy_(torch.where(dead[:, None], drawn, self.codes))
        self.usage.masked_fill_(dead, self.revive_below)
