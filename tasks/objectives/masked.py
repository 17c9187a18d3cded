"""The base of objectives that hide patches from the encoder and predict them from the visible ones.

Notable choices:

- Only visible patches enter the encoder, each at its true position.
- The predictor is a stack of the same layers, discarded after training.
- A full predictor computes all positions, with a learnt vector at hidden ones (MAE, He et al., 2022). It drops the
  visible positions after the last attention.
- A light predictor computes only the hidden positions, which attend to the visible ones (CrossMAE, Fu et al., 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.build import build
from ...core.data import Encoded, PatchBatch, VisiblePatches
from ...core.errors import ConfigError, Problem
from ...core.interfaces import Encoder, Objective
from ...encoders.cross_attention import CrossAttentionStack
from ...encoders.layers import TransformerStack
from ...encoders.vit import sine_cosine
from .masking import Masking, Uniform, mask, positions_of
from .masking_config import UniformMaskingConfig
from .objective_config import MaskedObjectiveConfig


@dataclass(frozen=True)
class Predicted:
    """The predictions for the hidden patches of a batch.

    Attributes:
        encoded: the encoded visible patches; its `valid` marks the real ones
        hidden: (B, N) bool
        vectors: (hidden patches, W), in the order of `hidden.nonzero()`
    """

    encoded: Encoded
    hidden: Tensor
    vectors: Tensor


class MaskedObjective(Objective):
    """Base of objectives that learn to predict hidden patches.

    Args:
        encoder: the encoder to pre-train

    Raises:
        ConfigError: if the predictor does not fit an encoder of this width
    """

    predictor: TransformerStack | CrossAttentionStack

    def __init__(self, config: MaskedObjectiveConfig, encoder: Encoder) -> None:
        super().__init__()
        # The width of a plugin's encoder may be unknown when an experiment is checked.
        if problems := config.predictor.misfits(encoder.width, called="predictor"):
            raise ConfigError([Problem("pretrain.objective", problem) for problem in problems])
        self.config = config
        self.masking = build(config.masking, Masking) if config.masking else Uniform(UniformMaskingConfig())
        self.encoder = encoder
        stack = config.predictor.stack(encoder.width)
        self.width = stack.width
        self.to_predictor = nn.Linear(encoder.width, stack.width) if stack.width != encoder.width else nn.Identity()
        self.mask_embedding = nn.Parameter(torch.randn(stack.width) * 0.02)
        self.predictor = TransformerStack(stack) if config.predictor.attention == "full" else CrossAttentionStack(stack)

    def parts(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}

    def predict(self, batch: PatchBatch) -> Predicted:
        """Hide patches and predict them."""
        visible, hidden = mask(batch, self.config.mask_ratio, self.masking)
        encoded: Encoded = self.encoder(batch, visible=visible)
        seen = self.to_predictor(encoded.sequence)  # (B, V, W)
        positions = torch.zeros_like(seen[0, 0]).expand(batch.grid.patches, -1)  # (N, W)
        if self.config.predictor.positions == "absolute":
            positions = sine_cosine(batch.grid, self.width).to(seen)
        if isinstance(self.predictor, CrossAttentionStack):
            vectors = self._predict_hidden(self.predictor, encoded, seen, visible, hidden, positions)
        else:
            vectors = self._predict_among_all(self.predictor, seen, visible, batch.valid, hidden, positions)
        return Predicted(encoded, hidden, vectors)

    def _predict_among_all(
        self,
        predictor: TransformerStack,
        seen: Tensor,
        visible: VisiblePatches,
        valid: Tensor,
        hidden: Tensor,
        positions: Tensor,
    ) -> Tensor:
        """Compute every position, and after the last attention only the hidden ones: (hidden patches, W)."""
        count = valid.shape[1]
        # Padding of `visible` has index 0, so it is moved past the end and cut off.
        index = torch.where(visible.valid, visible.index, count).unsqueeze(-1).expand_as(seen)
        sequence = self.mask_embedding.to(seen.dtype).expand(*valid.shape, -1)
        sequence = nn.functional.pad(sequence, (0, 0, 0, 1)).scatter(1, index, seen)[:, :-1]
        predicted, _ = predictor(sequence + positions, valid=valid, wanted=hidden)
        vectors: Tensor = predicted
        return vectors

    def _predict_hidden(
        self,
        predictor: CrossAttentionStack,
        encoded: Encoded,
        seen: Tensor,
        visible: VisiblePatches,
        hidden: Tensor,
        positions: Tensor,
    ) -> Tensor:
        """Compute only the hidden positions: (hidden patches, W)."""
        queries = positions_of(hidden)  # index (B, H)
        predicted: Tensor = predictor(
            self.mask_embedding.to(seen.dtype) + positions[queries.index],
            seen + positions[visible.index],
            valid=encoded.valid,
            positions=queries.index,
            memory_positions=visible.index,
        )
        return predicted[queries.valid]
