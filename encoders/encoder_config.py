"""Configurations of encoders and heads, importable without torch.

Notable choices:

- A named size gives the shape, and explicit fields override it.
- Dropouts are those of the released pre-trained encoders.
- `max_distance` is 800, as in every released file. The default of the released class differs and fits none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from ..core.catalog import Catalog
from ..core.config import Config

Size = Literal["tiny", "small", "base", "large"]
Activation = Literal["gelu", "gelu_accurate", "relu", "tanh", "linear", "glu"]


class Shape(NamedTuple):
    """The shape that a size names."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    patch_width: int


SIZES: Final[Mapping[str, Shape]] = {
    "tiny": Shape(layers=4, width=128, feed_forward=512, heads=4, patch_width=128),
    "small": Shape(layers=6, width=256, feed_forward=1024, heads=4, patch_width=256),
    "base": Shape(layers=12, width=768, feed_forward=3072, heads=12, patch_width=512),
    "large": Shape(layers=24, width=1024, feed_forward=4096, heads=16, patch_width=512),
}


class LayerOptions(Config):
    """Options of Transformer layers besides their shape."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout after attention, after the feed-forward network and before the first layer."""

    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of attention weights."""

    activation_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout inside the feed-forward network, after its activation."""

    layer_drop: float = Field(default=0.05, ge=0, lt=1)
    """Probability that a whole layer is skipped for a training batch."""

    activation: Activation = "gelu"
    """Activation of the feed-forward network. `glu` multiplies one half of the hidden units by the swish of the
    other."""

    norm: Literal["post", "pre"] = "post"
    """Layer normalisation after each residual sum (`post`) or before each branch (`pre`)."""

    deep_norm: bool = True
    """Scale the residual by (2 x layers) ** 1/4 and the initial weights by (8 x layers) ** -1/4. Post-norm only."""

    relative_bias: bool = True
    """Add a learnt bias for the distance between two patches to their attention logits."""

    gated: bool = True
    """Let each query scale that bias."""

    buckets: int = Field(default=320, ge=4, multiple_of=4)
    """Buckets of distances. Each sign has half of them, and half of these hold one distance each."""

    max_distance: int = Field(default=800, ge=2)
    """Distance in patches from which on all distances share the last bucket."""

    gradient_decay: float = Field(default=1.0, gt=0, le=1)
    """The gradient of layer i of L is multiplied by this ** (L - 1 - i), and that of the patch stem by this ** L."""

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if self.deep_norm and self.norm == "pre":
            raise ValueError("`deep_norm` works only with `norm: post`: set `deep_norm: false` or `norm: post`")
        if self.gated and not self.relative_bias:
            raise ValueError("`gated` scales the relative bias: set `gated: false` or `relative_bias: true`")
        if self.max_distance <= self.buckets // 4:
            raise ValueError(
                f"`max_distance` ({self.max_distance}) must exceed `buckets` / 4 = {self.buckets // 4}, "
                f"the distances that have a separate bucket: raise `max_distance` or lower `buckets`"
            )
        return self


class StackConfig(LayerOptions):
    """A stack of BEATs layers of any shape, for encoders and for label predictors."""

    layers: int = Field(ge=1)
    """Number of layers."""

    width: int = Field(ge=1)
    """Size of each vector of the sequence."""

    feed_forward: int = Field(ge=1)
    """Hidden units of the feed-forward network."""

    heads: int = Field(ge=1)
    """Attention heads; must divide `width`."""

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        check_divides("heads", self.heads, self.width)
        return self


class BeatsConfig(LayerOptions):
    """The encoder of BEATs (arXiv 2212.09058, section 4.2), with every option of the released code."""

    size: Size = "base"
    """`base` (90 million parameters) is the size of the paper. `tiny` and `small` suit a laptop."""

    layers: int | None = Field(default=None, ge=1)
    """Transformer layers. By default, this and the next four fields follow from `size`."""

    width: int | None = Field(default=None, ge=1)
    """Size of each output vector."""

    feed_forward: int | None = Field(default=None, ge=1)
    """Hidden units of the feed-forward network."""

    heads: int | None = Field(default=None, ge=1)
    """Attention heads; must divide `width`."""

    patch_width: int | None = Field(default=None, ge=1)
    """Size of a patch embedding before the projection to `width`. There is no projection if they are equal."""

    patch_bias: bool = False
    """Whether the patch embedding has a bias (`conv_bias` in the released code)."""

    input_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of patch embeddings."""

    conv_position_kernel: int = Field(default=128, ge=1)
    """Width of the convolutional position embedding, in patches."""

    conv_position_groups: int = Field(default=16, ge=1)
    """Groups of that convolution; must divide `width`."""

    positions: Literal["true", "squeezed"] = "true"
    """Positions of visible patches while others are hidden: their true ones, or those after the gaps are closed, as in
    ESPnet's re-implementation."""

    @property
    def shape(self) -> Shape:
        """The shape of the size, with the explicit fields replaced."""
        given = {name: getattr(self, name) for name in Shape._fields}
        return SIZES[self.size]._replace(**{name: value for name, value in given.items() if value is not None})

    @property
    def stack(self) -> StackConfig:
        """The Transformer layers of this encoder."""
        options = self.model_dump(include=set(LayerOptions.model_fields))
        shape = self.shape._asdict()
        del shape["patch_width"]
        return StackConfig(**options, **shape)

    def compatibility_facts(self, catalog: Catalog) -> Mapping[str, object]:
        return {"encoder_width": self.shape.width, "encoder_layers": self.shape.layers}

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        check_divides("heads", self.shape.heads, self.shape.width)
        check_divides("conv_position_groups", self.conv_position_groups, self.shape.width)
        return self


class PlainVitConfig(Config):
    """A plain pre-norm Transformer over patches with fixed sine-cosine positions: the baseline for BEATs' encoder."""

    size: Size = "tiny"
    """`tiny`, `small`, `base` or `large`, with the shapes of `beats`."""

    layers: int | None = Field(default=None, ge=1)
    """Transformer layers. By default, this and the next three fields follow from `size`."""

    width: int | None = Field(default=None, ge=1, multiple_of=4)
    """Size of each output vector. Half of the position vector encodes the time, half the band."""

    feed_forward: int | None = Field(default=None, ge=1)
    """Hidden units of the feed-forward network."""

    heads: int | None = Field(default=None, ge=1)
    """Attention heads; must divide `width`."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout after attention and after the feed-forward network."""

    @property
    def stack(self) -> StackConfig:
        """The Transformer layers of this encoder."""
        size = SIZES[self.size]
        return StackConfig(
            layers=self.layers or size.layers,
            width=self.width or size.width,
            feed_forward=self.feed_forward or size.feed_forward,
            heads=self.heads or size.heads,
            dropout=self.dropout,
            attention_dropout=0.0,
            layer_drop=0.0,
            norm="pre",
            deep_norm=False,
            relative_bias=False,
            gated=False,
        )

    def compatibility_facts(self, catalog: Catalog) -> Mapping[str, object]:
        return {"encoder_width": self.stack.width, "encoder_layers": self.stack.layers}

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        size = SIZES[self.size]
        check_divides("heads", self.heads or size.heads, self.width or size.width)
        return self


class LinearHeadConfig(Config):
    """A linear classifier of every patch, averaged over the clip (BEATs, section 4.2)."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the encoder's vectors."""


class AttentiveHeadConfig(Config):
    """A linear classifier of vectors pooled by learnt attention."""

    queries: int = Field(default=1, ge=1)
    """Number of pooled vectors, each with its attention query."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the pooled vectors."""


def check_divides(name: str, value: int, width: int) -> None:
    """Check that a field divides the width. The error lists the values that do.

    Raises:
        ValueError: if `value` does not divide `width`
    """
    if width % value:
        divisors = ", ".join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
        raise ValueError(
            f"`{name}` must divide `width`, but {value} does not divide {width}: "
            f"set `{name}` to one of {divisors}, or change `width`"
        )


class PooledHeadConfig(Config):
    """A linear classifier of a clip's frequency bands, each averaged over time."""

    view: Literal["bands", "bands+std"] = "bands"
    """Input from each band: the mean over time, or also the standard deviation."""
    standardise: bool = False
    """Standardise the pooled vectors over the batch (batch normalisation without gain and shift), as MAE does before a
    linear classifier. Otherwise the component that all clips share slows down the training. With several processes,
    each uses its share of the batch."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the pooled vectors."""
