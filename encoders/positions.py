"""The gated relative position bias of attention (BEATs, section 4.2).

Notable choices:

- The bias uses the true positions of patches, so hiding some patches does not move the others.
- All layers share one table of biases.
- The bucket of each distance depends only on the configuration, so nothing is cached at run time.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F


def relative_buckets(distance: Tensor, *, buckets: int, max_distance: int) -> Tensor:
    """Map signed distances to buckets: int64 to int64 in [0, buckets).

    Each sign has half of the buckets. Half of these hold one distance each. The sizes of the others grow
    logarithmically up to `max_distance` (T5, Raffel et al., 2020; bidirectional).
    """
    per_sign = buckets // 2
    exact = per_sign // 2
    size = distance.abs()
    growth = (size.float() / exact).log() / math.log(max_distance / exact) * (per_sign - exact)
    # The logarithm of a small distance is not used, but it must not overflow an integer.
    far = (exact + growth.clamp(min=0).long()).clamp(max=per_sign - 1)
    return torch.where(size < exact, size, far) + per_sign * (distance > 0)


class RelativeBias(nn.Module):
    """One learnt bias per head and bucket of the signed distance from query to key.

    Args:
        heads: attention heads
        buckets: number of distance buckets
        max_distance: distance, in patches, from which on all distances share the last bucket
    """

    bucket: Tensor

    def __init__(self, heads: int, *, buckets: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.empty(buckets, heads).normal_(std=0.02))
        distance = torch.arange(-max_distance, max_distance + 1)
        bucket = relative_buckets(distance, buckets=buckets, max_distance=max_distance)
        self.register_buffer("bucket", bucket, persistent=False)

    def forward(self, count: int, positions: Tensor | None = None) -> Tensor:
        """Give the bias of every query and key.

        Args:
            count: N, the length of the sequence
            positions: (B, N) int64; 0 to N - 1 in every clip when None

        Returns:
            (H, N, N), or (B, H, N, N) with `positions`
        """
        if positions is None:
            distance = torch.arange(1 - count, count, device=self.table.device)
            # Without the copy the heads alternate in memory, and the layers take three times as long to read the bias.
            by_distance = self.table[self._bucket_of(distance)].T.contiguous()  # (H, 2N - 1)
            # Row i of the bias starts at distance -i: windows of N distances, the last window first.
            return by_distance.unfold(1, count, 1).flip(1)
        return self.between(positions, positions)

    def between(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Give the bias between positions of queries and of keys: (B, N), (B, M) int64 to (B, H, N, M)."""
        distance = keys[:, None, :] - queries[:, :, None]  # (B, N, M)
        return rearrange(F.embedding(self._bucket_of(distance), self.table), "b i j h -> b h i j").contiguous()

    def _bucket_of(self, distance: Tensor) -> Tensor:
        return self.bucket[distance.clamp(-self.max_distance, self.max_distance) + self.max_distance]


class BiasGate(nn.Module):
    """Let each query scale the relative bias (WavLM, Chen et al., 2022, section 3.1).

    Args:
        head_dim: size of a query
        heads: attention heads
    """

    def __init__(self, head_dim: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(head_dim, 8)
        self.scale = nn.Parameter(torch.ones(heads))

    def forward(self, query: Tensor) -> Tensor:
        """Give each query's factor: unscaled (B, H, N, head_dim) to (B, H, N, 1)."""
        # Summing eight outputs in two groups of four equals two outputs of the summed weights.
        weight = reduce(self.project.weight, "(gate four) d -> gate d", "sum", four=4)
        bias = reduce(self.project.bias, "(gate four) -> gate", "sum", four=4)
        # The transposed view has the memory layout of the query projection, so this needs no copy of the queries. The
        # gates are copied into the layout of the bias.
        gates = F.linear(query.transpose(1, 2), weight, bias).transpose(1, 2).contiguous()
        reset, update = gates.sigmoid().chunk(2, dim=-1)
        return reset * (update * self.scale[:, None, None] - 1.0) + 2.0
