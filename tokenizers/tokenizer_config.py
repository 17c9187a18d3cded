"""What a user may set about each built-in tokenizer. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator

from ..core.choices import CHECKPOINT, EncoderChoice, PartChoice, TokenizerChoice
from ..core.config import TokenizerConfig


class RandomProjectionConfig(TokenizerConfig):
    """A frozen random projection and the nearest of frozen random codes (BEATs, iteration 1; BEST-RQ).

    BEST-RQ (arXiv 2202.01855) is `{codebook_size: 8192, codebook_dim: 16, normalize: l2}`, and with USM's multi-softmax
    loss (arXiv 2303.01037) `codebooks: 16` besides.
    """

    codebook_size: int = Field(default=1024, ge=2)
    """K, the number of codes."""

    codebook_dim: int = Field(default=256, ge=1)
    """Numbers per code; the projection maps a patch to as many."""

    normalize: Literal["none", "layer", "l2"] = "layer"
    """What is normalised before the nearest code is sought: `none`, as BEATs is written; `layer`: each patch to zero
    mean and unit variance, so that level and spectral tilt do not decide the token; `l2`: projection and codes to
    unit length, as in BEST-RQ (arXiv 2202.01855)."""

    codebooks: int = Field(default=1, ge=1)
    """Codebooks, each behind a projection of its own; a patch gets a token of each, and all are predicted."""


class KMeansConfig(TokenizerConfig):
    """The nearest of centres that k-means finds among patches, or among vectors of a teacher's layer (HuBERT).

    HuBERT (arXiv 2106.07447) begins with centres of acoustic features, and goes on with those of an inner layer of the
    encoder that it has pre-trained on their tokens: `kmeans`, then `{type: kmeans, layer: 6}`.
    """

    codebook_size: int = Field(default=1024, ge=2)
    """K, the number of centres."""

    layer: Annotated[int, Field(ge=0)] | Literal["last"] | None = None
    """Layer of the teacher whose output is clustered, 0 being the input of the first; `last` is the teacher's final
    output. Patches are clustered when absent, and there is no teacher."""

    normalize: Literal["none", "layer"] = "layer"
    """What is normalised first: nothing, or each vector to zero mean and unit variance."""

    kmeans_rounds: int = Field(default=100, ge=1)
    """Rounds of k-means at most."""

    kmeans_vectors: int = Field(default=64, ge=1)
    """Vectors per centre that k-means clusters, drawn at random from the corpus."""

    @property
    def needs_teacher(self) -> bool:
        return self.layer is not None

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        last = context.get("teacher_layers")
        if not isinstance(self.layer, int) or not isinstance(last, int) or self.layer <= last:
            return []
        return [f"`layer` must be `last` or one of 0 to {last}, but is {self.layer}"]

    def for_dry_run(self) -> Self:
        return self.model_copy(update={"kmeans_vectors": 1, "kmeans_rounds": 1})


class DistilledConfig(TokenizerConfig):
    """Base of the tokenizers that an encoder teaches: each has an encoder of its own."""

    objective: ClassVar[str | None] = "distillation"

    encoder: EncoderChoice | None = None
    """Its encoder; one like the experiment's when absent."""

    @property
    def needs_teacher(self) -> bool:
        return True

    @property
    def start_vectors(self) -> int:
        """How many vectors the quantiser is fitted to before training."""
        return 4096


class KMeansStartConfig(DistilledConfig):
    """Base of those whose codebook k-means starts, and moving averages move."""

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

    @property
    def start_vectors(self) -> int:
        return self.kmeans_vectors * self.codebook_size

    def for_dry_run(self) -> Self:
        return self.model_copy(update={"kmeans_vectors": 1})


class SelfDistilledConfig(KMeansStartConfig):
    """An encoder, a projection and a codebook, taught by an encoder (BEATs, iterations 2 and on)."""


class ResidualDistilledConfig(KMeansStartConfig):
    """An encoder, a projection and several codebooks, each coding what those before it leave over (SoundStream).

    Taught by an encoder, as `self_distilled` is; a patch gets a token of each codebook, and all are predicted.
    """

    codebooks: int = Field(default=4, ge=1)
    """G, the number of codebooks."""

    kmeans_rounds: int = Field(default=10, ge=1)
    """Rounds of k-means that start each codebook."""


class FsqDistilledConfig(DistilledConfig):
    """An encoder, a projection and finite scalar quantisation, taught by an encoder (arXiv 2309.15505).

    Each of a few numbers is rounded to one of its levels, so that there is no codebook to learn or to collapse.
    """

    levels: tuple[Annotated[int, Field(ge=3)], ...] = Field(default=(8, 5, 5, 5), min_length=1)
    """Levels of each number; their product is the number of codes. The paper takes 5 or more, such as `[8, 6, 5]` for
    240 codes, `[8, 5, 5, 5]` for 1000 and `[7, 5, 5, 5, 5]` for 4375."""


class PositionConfig(TokenizerConfig):
    """A control: the token of a patch is its position in the grid, so nothing about sound can be learnt from it."""

    columns: int = Field(default=64, ge=1)
    """Time columns that have separate tokens; later ones share the tokens of the last."""


class ShuffledConfig(TokenizerConfig):
    """A control: the tokens of another clip. It keeps token statistics and breaks the link to the audio.

    Each clip has the tokens that another tokenizer gives to another clip of the corpus, at the same positions. How
    often each token occurs, at which positions and beside which others, does not change.
    """

    tokenizer: TokenizerChoice
    """The tokenizer whose tokens are shuffled; one that is drawn, or fitted without a teacher."""

    clips: int = Field(default=512, ge=1)
    """Clips whose tokens are dealt out, drawn at random from the corpus."""

    columns: int = Field(default=64, ge=1)
    """Time columns of each of them that are kept; longer clips get theirs over again."""

    @field_validator("tokenizer")
    @classmethod
    def _is_drawn_or_fitted(cls, value: PartChoice) -> PartChoice:
        config = value.config
        taught = isinstance(config, TokenizerConfig) and (config.objective is not None or config.needs_teacher)
        if taught or value.name == CHECKPOINT:
            raise ValueError(
                "must be drawn, or fitted without a teacher, such as `random_projection` or `kmeans`, but "
                f"`{value.name}` is trained, taught or from a checkpoint"
            )
        return value
