"""The classification head of a fine-tuned encoder."""

from __future__ import annotations

from torch import Tensor, nn

from ..core.data import Encoded


class MeanLogitsHead(nn.Module):
    """Score every patch, then average the scores of the real ones (BEATs, released code).

    Args:
        width: size of the encoder's vectors
        classes: number of classes
        dropout: of those vectors
    """

    def __init__(self, width: int, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes)

    def forward(self, encoded: Encoded) -> Tensor:
        """Give one logit per class: sequence (B, N, D) to (B, classes). A sigmoid makes them probabilities."""
        logits: Tensor = self.linear(self.dropout(encoded.sequence))
        valid = encoded.valid[..., None]
        return logits.masked_fill(~valid, 0.0).sum(1) / valid.sum(1).clamp(min=1)
