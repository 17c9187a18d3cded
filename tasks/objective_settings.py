"""What a user may set about each built-in objective. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from ..core.config import Config
from ..encoders.settings import StackConfig, check_divides

HEAD_DIM = 64
"""Size of an attention head where the number of heads is not given."""


class PredictorConfig(Config):
    """The label predictor: a small stack of the encoder's kind of layers, thrown away after pre-training."""

    layers: int = Field(default=3, ge=1)
    """Transformer layers."""

    width: int | None = Field(default=None, ge=1)
    """Size of its vectors; the encoder's when absent."""

    heads: int | None = Field(default=None, ge=1)
    """Attention heads; one for every 64 of the width when absent."""

    norm: Literal["post", "pre"] = "post"
    """Layer normalisation after each residual sum (with DeepNorm), or before each branch."""

    positions: Literal["relative", "absolute"] = "absolute"
    """What tells hidden patches apart: the layers' relative bias alone, or sine-cosine positions of column and band
    added to the predictor's input as well."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout after attention and after the feed-forward network."""

    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of attention weights."""

    def stack(self, encoder_width: int) -> StackConfig:
        """The predictor's layers for an encoder of this width."""
        width = self.width or encoder_width
        return StackConfig(
            layers=self.layers,
            width=width,
            feed_forward=4 * width,
            heads=self.heads or max(1, width // HEAD_DIM),
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            layer_drop=0.0,
            norm=self.norm,
            deep_norm=self.norm == "post",
        )

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width is not None and self.heads is not None:
            check_divides("heads", self.heads, self.width)
        return self


class MaskedPredictionConfig(Config):
    """Predict the labels of hidden patches from the visible ones (BEATs, section 3.3)."""

    mask_ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of a clip's patches that is hidden."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Probability mass spread over all labels; ESPnet uses 0.1."""

    predictor: PredictorConfig = PredictorConfig()
    """The label predictor."""

    def problems(self, facts: Mapping[str, object]) -> list[str]:
        width, predictor = facts.get("encoder_width"), self.predictor
        if predictor.width is not None or not isinstance(width, int):
            return []
        try:
            check_divides("predictor.heads", predictor.heads or max(1, width // HEAD_DIM), width)
        except ValueError as error:
            return [str(error)]
        return []


class DistillationConfig(Config):
    """Let a tokenizer's codes explain a teacher's outputs (BEATs, section 3.2.2)."""

    target: Literal["hidden", "logits"] = "hidden"
    """What is explained: the teacher's vector of each patch, or a fine-tuned teacher's class logits for the clip."""

    teacher_layer: int | None = Field(default=None, ge=0)
    """Layer whose output is explained, 0 being the input of the first; the teacher's final output when absent."""

    standardise: bool = True
    """Take each number of the teacher's vectors to zero mean and unit variance over the first batches. What all vectors
    share else makes up most of the cosine, and a few codes suffice for it."""

    commitment: float = Field(default=1.0, ge=0)
    """Weight of the squared distance between a patch's vector and its code, averaged over a code's numbers as in the
    released code; ESPnet uses 10. Far larger weights draw all vectors to a few codes."""

    estimator: PredictorConfig = PredictorConfig()
    """Estimates the teacher's outputs from the codes; thrown away afterwards."""
