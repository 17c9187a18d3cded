"""Layers whose queries attend to a fixed memory: the light predictor of masked pre-training.

Notable choices:

- Hidden positions attend to visible patches and never to each other, as in CrossMAE (Fu et al., 2024).
- The layers have the components of BEATs' layers, so a full and a light predictor differ only in what attends to what.
"""

from __future__ import annotations

from torch import Tensor, nn

from .encoder_config import StackConfig
from .layers import LayerStack


class CrossAttentionStack(LayerStack):
    """Layers over queries that attend to a memory. The memory is normalised once."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__(config)
        self.memory_norm = nn.LayerNorm(config.width)

    def forward(
        self, queries: Tensor, memory: Tensor, *, valid: Tensor, positions: Tensor, memory_positions: Tensor
    ) -> Tensor:
        """Transform queries: (B, N, D) to (B, N, D).

        Args:
            memory: (B, M, D)
            valid: (B, M) bool, False for padding of the memory
            positions: (B, N) int64, of the queries
            memory_positions: (B, M) int64, of the memory's vectors
        """
        bias = self.bias.between(positions, memory_positions) if self.bias is not None else None
        return self.through(queries, valid=valid, bias=bias, memory=self.memory_norm(memory))[0]
