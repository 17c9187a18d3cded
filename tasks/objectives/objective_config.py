"""Configurations of the built-in objectives. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...audio.augmentation_config import AugmentationConfig
from ...core.choices import ChoiceOf, PartChoice
from ...core.config import Config, ObjectiveConfig
from ...encoders.encoder_config import StackConfig, check_divides

HEAD_DIM = 64
"""Size of an attention head if the number of heads is not given."""

PLACE_MULTIPLE = 4
"""The width of sine-cosine positions must be a multiple of 4: sine and cosine, for column and band."""


class EstimatorConfig(Config):
    """A small stack of the same layers as in the encoder. It is discarded after pre-training."""

    layers: int = Field(default=3, ge=1)
    """Transformer layers."""

    width: int | None = Field(default=None, ge=1)
    """Size of the vectors; the encoder's width when absent."""

    heads: int | None = Field(default=None, ge=1)
    """Attention heads; one for every 64 of the width when absent."""

    norm: Literal["post", "pre"] = "post"
    """Layer normalisation after each residual sum (with DeepNorm), or before each branch."""

    positions: Literal["relative", "absolute"] = "absolute"
    """The source of position information: only the layers' relative bias, or also sine-cosine positions of column and
    band, which are added to the input."""

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout after attention and after the feed-forward network."""

    attention_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of attention weights."""

    def stack(self, encoder_width: int) -> StackConfig:
        """Return the configuration of the layers for an encoder of this width. `misfits` reports invalid widths."""
        width = self.width or encoder_width
        return StackConfig(
            layers=self.layers,
            width=width,
            feed_forward=4 * width,
            heads=self._heads(width),
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            layer_drop=0.0,
            norm=self.norm,
            deep_norm=self.norm == "post",
        )

    def misfits(self, encoder_width: object, *, called: str) -> list[str]:
        """Return the reasons why the stack is invalid for an encoder.

        Args:
            encoder_width: used if `width` is absent; not a number if unknown
            called: name of the field that holds this configuration
        """
        width = self.width or encoder_width
        return self._faults(width, f"{called}.") if isinstance(width, int) else []

    def _faults(self, width: int, prefix: str) -> list[str]:
        found = []
        try:
            check_divides(f"{prefix}heads", self._heads(width), width)
        except ValueError as error:
            derived = f" (when absent, it is one for every {HEAD_DIM} of the width)"
            found.append(str(error) + (derived if self.heads is None else ""))
        if self.positions == "absolute" and width % PLACE_MULTIPLE:
            found.append(
                f"`{prefix}positions: absolute` needs a `width` that is a multiple of {PLACE_MULTIPLE}, but it is "
                f"{width}: set another `{prefix}width`, or `{prefix}positions: relative`"
            )
        return found

    def _heads(self, width: int) -> int:
        return self.heads or max(1, width // HEAD_DIM)

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if self.width is not None and (faults := self._faults(self.width, "")):
            raise ValueError("; ".join(faults))
        return self


class PredictorConfig(EstimatorConfig):
    """The predictor of hidden patches from visible ones. It is discarded after pre-training."""

    attention: Literal["full", "cross"] = "full"
    """With `full`, all positions attend to each other (MAE, BEATs). With `cross`, only the hidden positions are
    computed and attend to the visible ones, which costs less (CrossMAE, Fu et al., 2024)."""


class MaskedObjectiveConfig(ObjectiveConfig):
    """Base of the configurations of objectives that hide patches from the encoder."""

    mask_ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of a clip's patches that is hidden."""

    masking: Annotated[PartChoice, ChoiceOf("masking")] | None = None
    """How hidden patches are chosen; `uniform` when absent."""

    predictor: PredictorConfig = PredictorConfig()
    """The predictor of the hidden patches."""

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        return self.predictor.misfits(context.get("encoder_width"), called="predictor")


class MaskedPredictionConfig(MaskedObjectiveConfig):
    """Predict the tokens of hidden patches from the visible ones (BEATs, section 3.3)."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Probability mass spread over all tokens; ESPnet uses 0.1."""


class ReconstructionConfig(MaskedObjectiveConfig):
    """Reconstruct hidden patches of the spectrogram from the visible ones (MAE, Audio-MAE).

    He et al., 2022; Huang et al., 2022.
    """

    needs_tokenizer: ClassVar[bool] = False

    mask_ratio: float = Field(default=0.8, gt=0, lt=1)
    """Share of a clip's patches that is hidden. Audio-MAE uses 0.8."""

    normalise_targets: bool = True
    """Whether each target patch is normalised to zero mean and unit variance, as in Audio-MAE. This removes the level
    of the patch and keeps its texture."""


class AveragedTeacherConfig(MaskedObjectiveConfig):
    """Predict the outputs at hidden patches of a teacher that hears the whole clip (data2vec, EAT).

    The teacher is a running average of the encoder (Baevski et al., 2022; Chen et al., 2024).
    """

    needs_tokenizer: ClassVar[bool] = False

    mask_ratio: float = Field(default=0.8, gt=0, lt=1)
    """Share of a clip's patches that is hidden. EAT uses 0.8 with `masking: inverse_block`."""

    top_layers: int | None = Field(default=None, ge=1)
    """Number of the teacher's last layers that are averaged; all when absent, as in EAT. data2vec uses 8 of 12."""

    decay: float = Field(default=0.999, ge=0, le=1)
    """Decay of the running average at the start: the share of its old weights that the teacher keeps in a step."""

    final_decay: float = Field(default=0.9999, ge=0, le=1)
    """Decay of the running average at the end. EAT increases it from 0.9998 to 0.99999."""

    decay_steps: int = Field(default=30_000, ge=0)
    """Steps over which the decay rises linearly from `decay` to `final_decay`. A short training needs a lower decay,
    because at 0.999 the teacher is about a thousand steps behind the encoder."""

    clip_loss: float = Field(default=0.0, ge=0)
    """Weight of EAT's loss for whole clips, in which the projected mean of the encoder's outputs predicts the mean of
    the teacher's outputs. EAT uses 1."""

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        layers = context.get("encoder_layers")
        found = super().check_compatibility(context)
        if isinstance(layers, int) and self.top_layers is not None and self.top_layers > layers:
            found.append(f"`top_layers` must be at most {layers}, the encoder's layers, but is {self.top_layers}")
        return found

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        if self.final_decay < self.decay:
            raise ValueError(
                f"`final_decay` ({self.final_decay}) must be at least `decay` ({self.decay}): raise it or lower `decay`"
            )
        return self


class DistillationConfig(Config):
    """Predict a teacher's outputs from a tokenizer's codes (BEATs, section 3.2.2)."""

    target: Literal["hidden", "patch_logits", "logits"] = "hidden"
    """The target: the teacher's vector of each patch (`hidden`), or a fine-tuned teacher's class logits of each patch
    (`patch_logits`, needs `head: linear`) or of the clip (`logits`). With `logits`, all patches of a clip have the same
    target, so codes need not distinguish them."""

    teacher_layer: int | None = Field(default=None, ge=0)
    """Layer whose output is the target. 0 is the input of the first layer; the teacher's final output when absent."""

    standardise: bool = True
    """Standardise each number of the teacher's vectors to zero mean and unit variance over the first batches. Otherwise
    the mean of all vectors dominates the cosine, and a few codes suffice for it."""

    principal_components: int | None = Field(default=None, ge=1)
    """Predict this many principal components of the teacher's vectors, each scaled to unit variance, instead of the
    vectors. Otherwise two or three directions dominate the vectors of a briefly trained teacher, and the codes ignore
    the others."""

    commitment: float = Field(default=1.0, ge=0)
    """Weight of the squared distance between a patch's vector and its code, averaged over the numbers of a code as in
    the released code. ESPnet uses 10. Much larger weights draw all vectors to a few codes."""

    estimator: EstimatorConfig = EstimatorConfig()
    """The model that predicts the teacher's outputs from the codes. It is discarded after training."""

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        """Return what does not fit the teacher, given what is known of `teacher_width`, `teacher_layers` and
        `teacher_classes`. 0 classes mean that the teacher has no classifier."""
        width, layers, classes = (context.get(f"teacher_{name}") for name in ("width", "layers", "classes"))
        found = self.estimator.misfits(width, called="estimator")
        hidden, layer = self.target == "hidden", self.teacher_layer
        if not hidden and classes == 0:
            found.append(
                f"`target: {self.target}` needs a teacher with a classifier: fine-tune the teacher, or set "
                "`target: hidden`"
            )
        if hidden and layer is not None and isinstance(layers, int) and layer > layers:
            found.append(f"`teacher_layer` must be one of 0 to {layers}, the teacher's layers, but is {layer}")
        components, size = self.principal_components, width if hidden else classes
        if components is not None and isinstance(size, int) and 0 < size < components:
            found.append(f"`principal_components` is {components}, but the teacher's vectors have {size} numbers")
        return found


class ClassificationConfig(Config):
    """Learn the classes of clips: cross-entropy, or binary cross-entropy if clips can have several labels."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Probability mass spread over all classes. If clips can have several labels, it is spread over the presence and
    absence of each class."""

    layer_lr_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor of the learning rate from one layer to the layer below. Of L layers, layer i trains at lr times
    this ** (L - 1 - i), everything below the layers at lr times this ** L, and the head at lr."""

    freeze_encoder: bool = False
    """Train only the head. The encoder runs in evaluation mode, without dropout."""

    augmentation: AugmentationConfig = AugmentationConfig()
    """How training clips are changed. Every use of a clip draws new random changes."""
