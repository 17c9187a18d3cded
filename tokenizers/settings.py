"""What a user may set about each built-in tokenizer. Importable without torch."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field

from ..core.config import EncoderChoice, TokenizerConfig


class RandomProjectionConfig(TokenizerConfig):
    """A frozen random projection and the nearest of frozen random codes (BEATs, iteration 1; BEST-RQ)."""

    codebook_size: int = Field(default=1024, ge=2)
    """K, the number of codes."""

    codebook_dim: int = Field(default=256, ge=1)
    """Numbers per code; the projection maps a patch to as many."""

    normalize: Literal["none", "layer", "l2"] = "layer"
    """What is normalised before the nearest code is sought: `none`, as BEATs is written; `layer`: each patch to zero
    mean and unit variance, so that level and spectral tilt do not decide the label; `l2`: projection and codes to
    unit length, as in BEST-RQ (arXiv 2202.01855)."""


class SelfDistilledConfig(TokenizerConfig):
    """An encoder, a projection and a codebook, taught by an encoder (BEATs, iterations 2 and on)."""

    objective: ClassVar[str | None] = "distillation"
    needs_teacher: ClassVar[bool] = True

    encoder: EncoderChoice | None = None
    """Its encoder; one like the experiment's when absent."""

    codebook_size: int = Field(default=1024, ge=2)
    """K, the number of codes."""

    codebook_dim: int = Field(default=256, ge=1)
    """Numbers per code."""

    decay: float = Field(default=0.99, ge=0, lt=1)
    """Share of a code that survives an update of the codebook; the rest is the mean of the vectors it coded."""

    revive_below: float = Field(default=0.0, ge=0)
    """Codes used less often than this in a batch, on average, are put where a random vector of the batch lies; 0, as in
    the paper, leaves unused codes where they are."""

    kmeans_rounds: int = Field(default=10, ge=0)
    """Rounds of k-means that start the codebook."""

    kmeans_vectors: int = Field(default=64, ge=1)
    """Vectors per code that k-means clusters."""

    def rehearsed(self) -> Self:
        return self.model_copy(update={"kmeans_vectors": 1})


class PlaceConfig(TokenizerConfig):
    """A control: a patch's place in the grid is its label, so that nothing about sound can be learnt from it."""

    columns: int = Field(default=64, ge=1)
    """Time columns told apart; later ones share the last one's labels."""
