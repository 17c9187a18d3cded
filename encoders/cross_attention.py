"""Layers in which some vectors look at others that do not change: the light predictor of masked pre-training.

Notable choices: as in CrossMAE (Fu et al., 2024), hidden positions attend to visible patches and never to each other;
the layers have the same components as those of BEATs, so that a full predictor and a light one differ only in what
attends to what.
"""

from __future__ import annotations

from torch import Tensor, nn

from .encoder_config import StackConfig
from .layers import LayerStack


class CrossAttentionStack(LayerStack):
    """Layers over queries that attend to a memory; the memory is normalised once."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__(config)
        self.memory_norm = nn.LayerNorm(config.width)

    def forward(
        self, queries: Tensor, memory: Tensor, *, valid: Tensor, positions: Tensor, memory_positions: Tensor
    ) -> Tensor:
        """Transform queries: (B, N, D) to (B, N, D).

        Args:
            memory: (B, M, D)
            valid: (B, M) bool, the vectors of the memory that may be attended to
            positions: (B, N) int64, of the queries
            memory_positions: (B, M) int64, of the memory's vectors
        """
        bias = self.bias.between(positions, memory_positions) if self.bias is not None else None
        return self.through(queries, valid=valid, bias=bias, memory=self.memory_norm(memory))[0]
