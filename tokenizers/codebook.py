"""A codebook that follows its vectors by exponential moving averages (VQ-VAE's EMA variant).

Notable choices:

- Codes are fp32 buffers, so optimisers do not change them and mixed precision does not round them.
- Statistics are summed over all ranks, so all ranks have the same codes.
- Evaluation changes nothing. The released code updates its usage counts in evaluation, and runs its initial k-means
  inside `forward`.
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
    """K codes. The code of a vector is the nearest one (BEATs, equations 2 to 5; released code).

    Args:
        size: K
        dim: d, numbers per code
        decay: weight of the old code in an update
        revive_below: codes that are used less often than this per batch, on average, move to a random vector of the
            batch; with 0, unused codes stay where they are
        usage_decay: weight of the old value in the average of how often a code is used; `decay` when None, as in the
            released code
        spherical: whether vectors and codes have unit length, as in BEATs; the nearest code then has the largest cosine
        kmeans_rounds: rounds of the initial k-means
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
        usage_decay: float | None = None,
        spherical: bool = True,
        kmeans_rounds: int = 10,
    ) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self.decay = decay
        self.revive_below = revive_below
        self.usage_decay = decay if usage_decay is None else usage_decay
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
    def start(self, vectors: Tensor, *, per_batch: float | None = None) -> None:
        """Initialise the codes by k-means, the same on every rank. Needs at least one vector.

        Args:
            per_batch: vectors in a batch, to scale the initial usage to one batch; None if they are one batch
        """
        points, rounds = self.to_code_space(vectors), self.kmeans_rounds
        if self.spherical:
            drawn = torch.randperm(len(points), device=points.device)[: self.size]
            # With fewer vectors than codes, several codes start at the same vector.
            drawn = drawn[torch.arange(self.size, device=points.device) % len(drawn)]
            centres, counts = spherical_kmeans(points, points[drawn], rounds=rounds)
        else:
            centres, counts = flat_kmeans(points, self.size, rounds=rounds, seed=int(torch.randint(2**31, ())))
        self.codes.copy_(centres)
        self.usage.copy_(counts * ((per_batch or len(vectors)) / len(vectors)))
        copy_from_first_rank(self.codes, self.usage)

    @torch.no_grad()
    def update(self, points: Tensor, ids: Tensor) -> None:
        """Move each used code towards the mean of its vectors."""
        points = points.float()
        counts = torch.bincount(ids, minlength=self.size).float()
        sums = torch.zeros_like(self.codes).index_add_(0, ids, points)
        sum_over_ranks(counts, sums)
        # On the sphere only the direction of the mean matters, and a division would lose precision.
        means = normalize(sums, dim=-1) if self.spherical else sums / counts.clamp(min=1.0)[:, None]
        moved = torch.lerp(means, self.codes, self.decay)
        self.codes.copy_(self.to_code_space(torch.where(counts[:, None] > 0, moved, self.codes)))
        self.usage.lerp_(counts, 1 - self.usage_decay)
        if self.revive_below > 0:
            self._revive(points)

    def _revive(self, points: Tensor) -> None:
        dead = self.usage < self.revive_below
        drawn = points[torch.randint(len(points), (self.size,), device=points.device)]
        copy_from_first_rank(drawn)
        self.codes.copy_(torch.where(dead[:, None], drawn, self.codes))
        self.usage.masked_fill_(dead, self.revive_below)
