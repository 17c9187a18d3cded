"""Configurations of fine-tuning. Importable without torch.

Notable choices:

- There are two options that slow down the layers near the input. `layer_lr_decay` lowers their learning rates, as in
  MAE and EAT. The encoder's option `gradient_decay` shrinks their gradients, as in BEATs' released code. AdamW largely
  undoes the latter, because its steps do not depend on the scale of a gradient.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...core.choices import CHECKPOINT, HeadChoice, ObjectiveChoice, with_options
from ...core.errors import ConfigError, Problem
from ...core.experiment import TrainingConfig
from ...core.stages import Stage
from ...core.task import Assignment, TaskConfig
from .specs import fine_tuned_evaluation_stage


class FineTuningConfig(TrainingConfig):
    """How an encoder and its head are trained on labelled clips."""

    # Changes the result, because checkpoints are selected or averaged.
    incidental: ClassVar[frozenset[str]] = TrainingConfig.incidental - {"checkpoint_every"}

    steps: int = Field(1000, gt=0)
    """Updates of the weights."""

    splits: tuple[Literal["train"]] = ("train",)
    """Train on the labelled clips of `train`. Under cross-validation, train on all folds but those for validation and
    test."""

    head: HeadChoice | None = None
    """The head that scores classes from the encoder's vectors; `linear` when absent."""

    objective: ObjectiveChoice | None = None
    """The training objective; `classification` with its defaults when absent."""

    encoder_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Options that override the encoder's configuration, such as `layer_drop`, `dropout` or `gradient_decay`."""

    label_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training clips that are used: the same share of every class, and at least one clip of each. All
    validation clips are used."""

    balanced: bool = False
    """Draw clips of rare classes as often as those of common ones. Otherwise every clip is used once per epoch."""

    select: Literal["last", "best"] = "last"
    """The weights to keep: the `last`, or those with the `best` score on the validation clips among the last `best_of`
    checkpoints. Test clips are never used."""

    best_of: int = Field(default=5, gt=0)
    """Number of checkpoints that `select: best` compares; all if there are fewer."""

    average_last: int = Field(default=1, gt=0)
    """Number of checkpoints whose mean weights replace the last weights. `select: best` compares the mean as well."""

    @property
    def rule(self) -> str:
        """Describe how weights are selected."""
        last = (
            "the last checkpoint" if self.average_last == 1 else f"the mean of the last {self.average_last} checkpoints"
        )
        if self.select == "last":
            return last
        others = "" if self.average_last == 1 else f", or {last}"
        return f"the best on the validation clips of the last {self.best_of} checkpoints{others}"

    @property
    def kept_checkpoints(self) -> int:
        """Number of checkpoints that the selection needs."""
        return max(self.average_last, self.best_of if self.select == "best" else 1)

    def shortened(self, *, steps: int, clips: int) -> Self:
        # A shortened training writes only one checkpoint.
        return super().shortened(steps=steps, clips=clips).model_copy(update={"average_last": 1})

    @model_validator(mode="after")
    def _check_checkpoints(self) -> Self:
        written = math.ceil(self.steps / self.checkpoint_every)
        if self.average_last > written:
            raise ValueError(
                f"`average_last` ({self.average_last}) must be at most {written}, the number of checkpoints that "
                f"{self.steps} steps write with `checkpoint_every: {self.checkpoint_every}`: lower one of the two"
            )
        return self


class FineTuneConfig(TaskConfig, FineTuningConfig):
    """Fine-tune every encoder on the training clips, and classify the test clips with it.

    The fine-tuned untrained encoder is the baseline "supervised from scratch". Validation and test clips are cut to
    their first `crop_seconds`.
    """

    def title(self, name: str) -> str:
        return name if self.label_share == 1.0 else f"{name}, {100 * self.label_share:.3g} % of the labels"

    def stages(self, asked: Assignment) -> list[Stage]:
        """Create a stage for each encoder, which fine-tunes and evaluates it.

        Raises:
            ConfigError: if the experiment's encoder lacks an option in `encoder_options`
        """
        encoder = asked.experiment.encoder
        if encoder.name != CHECKPOINT:
            # The options of a checkpoint's encoder are known only when it is loaded.
            try:
                with_options(encoder, self.encoder_options)
            except ConfigError as error:
                where = f"evaluate.{asked.experiment.evaluate.index(asked.task)}.encoder_options"
                raise ConfigError(
                    [Problem(where, f"{problem.where}: {problem.message}") for problem in error.problems]
                ) from None
        return [fine_tuned_evaluation_stage(asked, subject) for subject in asked.encoders]
