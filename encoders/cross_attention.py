"""Layers in which some vectors look at others that do not change: the light predictor of masked pre-training.

Notable choices: as in CrossMAE (Fu et al., 2024), hidden places attend to visible patches and never to each other; what
the layers are made of is what BEATs' own are, so that a full predictor and a light one differ in who attends to whom.
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
        self, queries: Tensor, memory: Tensor, *, valid: Tensor, places: Tensor, memory_places: Tensor
    ) -> Tensor:
        """Transform queries: (B, N, D) to (B, N, D).

        Args:
            memory: (B, M, D)
            valid: (B, M) bool, the vectors of the memory that may be attended to
            places: (B, N) int64, where each query stands
            memory_places: (B, M) int64, where each vector of the memory stands
        """
        bias = self.bias.between(places, memory_places) if self.bias is not None else None
        return self.through(queries, valid=valid, bias=bias, memory=self.memory_norm(memory))[0]
