"""What a user may set about each built-in objective. Importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...audio.augmentation_config import AugmentationConfig
from ...core.choices import ChoiceOf, PartChoice
from ...core.config import Config, ObjectiveConfig
from ...encoders.encoder_config import StackConfig, check_divides

HEAD_DIM = 64
"""Size of an attention head where the number of heads is not given."""

PLACE_MULTIPLE = 4
"""What the width of sine-cosine positions must be a multiple of: sine and cosine, of column and band."""


class EstimatorConfig(Config):
    """A small stack of the encoder's kind of layers, thrown away after pre-training."""

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
        """Its layers for an encoder of this width; `misfits` says for which there are none."""
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
        """Say why there is no such stack for an encoder.

        Args:
            encoder_width: heeded where it has no width of its own; no number if nobody knows it
            called: the field that holds it
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
    """What predicts hidden patches from the visible ones, thrown away after pre-training."""

    attention: Literal["full", "cross"] = "full"
    """Whether all positions attend to each other (MAE, BEATs), or only the hidden positions are computed and attend to
    the visible ones, which costs less (CrossMAE, Fu et al., 2024)."""


class MaskedObjectiveConfig(ObjectiveConfig):
    """What all objectives share that hide patches from the encoder."""

    mask_ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of a clip's patches that is hidden."""

    masking: Annotated[PartChoice, ChoiceOf("masking")] | None = None
    """Which patches are hidden together; `uniform` when absent."""

    predictor: PredictorConfig = PredictorConfig()
    """What predicts the hidden patches."""

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
    """Share of a clip's patches that is hidden; 0.8 is Audio-MAE's."""

    normalise_targets: bool = True
    """Whether each patch is brought to zero mean and unit variance before it is reconstructed, as in Audio-MAE: what is
    left of it is its texture."""


class AveragedTeacherConfig(MaskedObjectiveConfig):
    """Predict what a running average of the encoder, hearing all, makes of hidden patches (data2vec, EAT).

    Baevski et al., 2022; Chen et al., 2024.
    """

    needs_tokenizer: ClassVar[bool] = False

    mask_ratio: float = Field(default=0.8, gt=0, lt=1)
    """Share of a clip's patches that is hidden; 0.8 is EAT's, which hides with `masking: inverse_block`."""

    top_layers: int | None = Field(default=None, ge=1)
    """The teacher's last so many layers are averaged; all when absent, as in EAT. data2vec takes 8 of 12."""

    decay: float = Field(default=0.999, ge=0, le=1)
    """Share of its old weights that the teacher keeps in a step, at first."""

    final_decay: float = Field(default=0.9999, ge=0, le=1)
    """The share that it keeps in the end; EAT goes from 0.9998 to 0.99999."""

    decay_steps: int = Field(default=30_000, ge=0)
    """Steps over which the share rises evenly from `decay` to `final_decay`. Short trainings want a quicker teacher:
    one that keeps 0.999 of its weights is about a thousand steps behind the encoder."""

    clip_loss: float = Field(default=0.0, ge=0)
    """Weight of EAT's loss of whole clips: the mean of the encoder's outputs, projected, is to be the mean of the
    teacher's. EAT uses 1."""

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
    """Let a tokenizer's codes explain a teacher's outputs (BEATs, section 3.2.2)."""

    target: Literal["hidden", "logits"] = "hidden"
    """What is explained: the teacher's vector of each patch, or a fine-tuned teacher's class logits for the clip."""

    teacher_layer: int | None = Field(default=None, ge=0)
    """Layer whose output is explained, 0 being the input of the first; the teacher's final output when absent."""

    standardise: bool = True
    """Take each number of the teacher's vectors to zero mean and unit variance over the first batches. What all vectors
    share else makes up most of the cosine, and a few codes suffice for it."""

    principal_components: int | None = Field(default=None, ge=1)
    """Explain this many principal components of the teacher's vectors, each taken to unit variance, instead of the
    vectors. Two or three directions else make up most of a briefly trained teacher's, and the codes tell nothing of the
    others."""

    commitment: float = Field(default=1.0, ge=0)
    """Weight of the squared distance between a patch's vector and its code, averaged over a code's numbers as in the
    released code; ESPnet uses 10. Far larger weights draw all vectors to a few codes."""

    estimator: EstimatorConfig = EstimatorConfig()
    """Estimates the teacher's outputs from the codes; thrown away afterwards."""

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        """Say what does not fit the teacher, as far as `teacher_width`, `_layers` and `_classes` tell; 0 classes mean
        that it has no classifier."""
        width, layers, classes = (context.get(f"teacher_{name}") for name in ("width", "layers", "classes"))
        found = self.estimator.misfits(width, called="estimator")
        hidden, layer = self.target == "hidden", self.teacher_layer
        if not hidden and classes == 0:
            found.append(
                "`target: logits` needs a teacher with a classifier: let it be fine-tuned, or set `target: hidden`"
            )
        if hidden and layer is not None and isinstance(layers, int) and layer > layers:
            found.append(f"`teacher_layer` must be one of 0 to {layers}, the teacher's layers, but is {layer}")
        components, size = self.principal_components, width if hidden else classes
        if components is not None and isinstance(size, int) and 0 < size < components:
            found.append(f"`principal_components` is {components}, but the teacher's vectors have {size} numbers")
        return found


class ClassificationConfig(Config):
    """Learn the classes of clips: cross-entropy, or where clips carry several labels binary cross-entropy."""

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Probability mass spread over all classes; of each class alone, over yes and no, where clips carry several."""

    layer_lr_decay: float = Field(default=1.0, gt=0, le=1)
    """Layer i of L learns at lr times this ** (L - 1 - i), what lies below the layers at lr times this ** L, and the
    head at lr."""

    freeze_encoder: bool = False
    """Train the head alone; the encoder computes as it does in use, without dropout."""

    augmentation: AugmentationConfig = AugmentationConfig()
    """How training clips are changed each time they come."""
