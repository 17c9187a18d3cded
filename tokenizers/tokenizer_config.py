"""Configurations of the built-in tokenizers, importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator

from ..core.choices import CHECKPOINT, EncoderChoice, PartChoice, TokenizerChoice
from ..core.config import TokenizerConfig


class RandomProjectionConfig(TokenizerConfig):
    """A frozen random projection and the nearest of frozen random codes (BEATs, iteration 1; BEST-RQ).

    BEST-RQ (arXiv 2202.01855) is `{codebook_size: 8192, codebook_dim: 16, normalize: l2}`. USM's multi-softmax loss
    (arXiv 2303.01037) adds `codebooks: 16`.
    """

    codebook_size: int = Field(default=1024, ge=2)
    """K, the number of codes."""

    codebook_dim: int = Field(default=256, ge=1)
    """Numbers per code, which is the size of the projected patch."""

    normalize: Literal["none", "layer", "l2"] = "layer"
    """Normalisation before the search for the nearest code. `none`: as in the BEATs paper. `layer`: each patch to zero
    mean and unit variance, which removes level and spectral tilt. `l2`: projection and codes to unit length, as in
    BEST-RQ (arXiv 2202.01855)."""

    codebooks: int = Field(default=1, ge=1)
    """Number of codebooks, each with a separate projection. A patch gets a token from each, and all are predicted."""


class KMeansConfig(TokenizerConfig):
    """The nearest k-means centre of patches, or of the vectors in a layer of a teacher (HuBERT).

    HuBERT (arXiv 2106.07447) starts with centres of acoustic features. The next iteration uses an inner layer of the
    encoder that was pre-trained on those tokens: `kmeans`, then `{type: kmeans, layer: 6}`.
    """

    codebook_size: int = Field(default=1024, ge=2)
    """K, the number of centres."""

    layer: Annotated[int, Field(ge=0)] | Literal["last"] | None = None
    """Layer of the teacher whose output is clustered. 0 is the input of the first layer, `last` is the final output of
    the teacher. By default, patches are clustered and there is no teacher."""

    normalize: Literal["none", "layer"] = "layer"
    """Normalisation before clustering: none, or each vector to zero mean and unit variance."""

    kmeans_rounds: int = Field(default=100, ge=1)
    """Maximum number of rounds of k-means."""

    kmeans_vectors: int = Field(default=64, ge=1)
    """Number of vectors per centre that k-means uses, drawn at random from the corpus."""

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
    """Base of the tokenizers that are distilled from a teacher. Each has an encoder."""

    objective: ClassVar[str | None] = "distillation"

    encoder: EncoderChoice | None = None
    """The encoder of the tokenizer. By default, one like the experiment's."""

    @property
    def needs_teacher(self) -> bool:
        return True

    @property
    def start_vectors(self) -> int:
        """The number of vectors that the quantiser is fitted to before training."""
        return 4096


class KMeansStartConfig(DistilledConfig):
    """Base of the tokenizers whose codebook starts from k-means and follows moving averages."""

    codebook_size: int = Field(default=1024, ge=2)
    """K, the number of codes."""

    codebook_dim: int = Field(default=256, ge=1)
    """Numbers per code."""

    decay: float = Field(default=0.99, ge=0, lt=1)
    """Weight of the old code in an update. The rest is the mean of the vectors with this code."""

    revive_below: float = Field(default=0.0, ge=0)
    """Codes that are used less often than this per batch, on average, move to a random vector of the batch. With 0, as
    in the paper, unused codes stay where they are."""

    usage_decay: float = Field(default=0.9, ge=0, lt=1)
    """Weight of the old value in the average of how often a code is used, for `revive_below`. It forgets faster than
    `decay`, so that short trainings revive unused codes too."""

    kmeans_rounds: int = Field(default=10, ge=0)
    """Rounds of the initial k-means."""

    kmeans_vectors: int = Field(default=64, ge=1)
    """Number of vectors per code that the initial k-means uses."""

    @property
    def start_vectors(self) -> int:
        return self.kmeans_vectors * self.codebook_size

    def for_dry_run(self) -> Self:
        return self.model_copy(update={"kmeans_vectors": 1})


class SelfDistilledConfig(KMeansStartConfig):
    """An encoder, a projection and a codebook, distilled from an encoder (BEATs, from iteration 2 on)."""


class ResidualDistilledConfig(KMeansStartConfig):
    """An encoder, a projection and several codebooks, each for the residual of those before it (SoundStream).

    It is distilled from an encoder like `self_distilled`. A patch gets a token from each codebook, and all are
    predicted.
    """

    codebooks: int = Field(default=4, ge=1)
    """G, the number of codebooks."""

    kmeans_rounds: int = Field(default=10, ge=1)
    """Rounds of the initial k-means of each codebook."""


class FsqDistilledConfig(DistilledConfig):
    """An encoder, a projection and finite scalar quantisation, distilled from an encoder (arXiv 2309.15505).

    Each of a few numbers is rounded to one of its levels, so no codebook is learnt, and none can collapse.
    """

    levels: tuple[Annotated[int, Field(ge=3)], ...] = Field(default=(8, 5, 5, 5), min_length=1)
    """Levels of each number. Their product is the number of codes. The paper uses 5 or more, such as `[8, 6, 5]` for
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
    """The tokenizer whose tokens are shuffled. It must be drawn from the seed, or fitted without a teacher."""

    clips: int = Field(default=512, ge=1)
    """Number of source clips, drawn at random from the corpus."""

    columns: int = Field(default=64, ge=1)
    """Time columns that are stored of each source clip. Longer clips repeat them."""

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
