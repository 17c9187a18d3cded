"""What a user may set about fine-tuning; importable without torch.

Notable choices: two ways to let the layers near the input learn more slowly have two names. `layer_lr_decay` lowers
their learning rates (as in MAE and EAT); the encoder's own option `gradient_decay` shrinks their gradients (as in
BEATs' released code), which AdamW largely undoes, for its steps do not depend on a gradient's scale.
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
    """How an encoder and a head behind it are trained on labelled clips."""

    # Which checkpoints there are decides what is selected or averaged.
    incidental: ClassVar[frozenset[str]] = TrainingConfig.incidental - {"checkpoint_every"}

    steps: int = Field(1000, gt=0)
    """Updates of the weights."""

    splits: tuple[Literal["train"]] = ("train",)
    """The labelled clips of `train` teach; under cross-validation, those of the folds that neither test nor choose."""

    head: HeadChoice | None = None
    """What scores the classes from the encoder's vectors; `linear` when absent."""

    objective: ObjectiveChoice | None = None
    """What is learnt; `classification` with its defaults when absent."""

    encoder_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Replace options that the encoder was made with, such as `layer_drop`, `dropout` or `gradient_decay`."""

    label_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training clips whose labels are used, of every class alike and at least one clip of each; the others
    are left out. Validation clips keep their labels."""

    balanced: bool = False
    """Draw clips of rare classes as often as those of common ones; else every clip comes once in a pass."""

    select: Literal["last", "best"] = "last"
    """Which weights are kept: the `last`, or those with the `best` score on the validation clips among the last
    `best_of` checkpoints. Test clips have no say."""

    best_of: int = Field(default=5, gt=0)
    """Checkpoints that compete under `select: best`; all if there are fewer."""

    average_last: int = Field(default=1, gt=0)
    """Checkpoints whose mean weights stand for the last; under `select: best` the mean competes with the others."""

    @property
    def rule(self) -> str:
        """How weights are selected, in words."""
        last = (
            "the last checkpoint" if self.average_last == 1 else f"the mean of the last {self.average_last} checkpoints"
        )
        if self.select == "last":
            return last
        others = "" if self.average_last == 1 else f", or {last}"
        return f"the best on the validation clips of the last {self.best_of} checkpoints{others}"

    @property
    def kept_checkpoints(self) -> int:
        """How many checkpoints the selection needs."""
        return max(self.average_last, self.best_of if self.select == "best" else 1)

    def shortened(self, *, steps: int, clips: int) -> Self:
        # Only one checkpoint is written.
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
    """Fine-tune every encoder on the training clips, and let it classify the test clips.

    The untrained encoder, fine-tuned, is the baseline "supervised from scratch". Of longer clips than `crop_seconds`,
    validation and test hear the beginning.
    """

    def title(self, name: str) -> str:
        return name if self.label_share == 1.0 else f"{name}, {100 * self.label_share:.3g} % of the labels"

    def stages(self, asked: Assignment) -> list[Stage]:
        """One stage for each encoder, which trains and judges.

        Raises:
            ConfigError: if the experiment's encoder has no such option as `encoder_options` names
        """
        encoder = asked.experiment.encoder
        if encoder.name != CHECKPOINT:
            # What a checkpoint's encoder has is seen when it is loaded.
            try:
                with_options(encoder, self.encoder_options)
            except ConfigError as error:
                where = f"evaluate.{asked.experiment.evaluate.index(asked.task)}.encoder_options"
                raise ConfigError(
                    [Problem(where, f"{problem.where}: {problem.message}") for problem in error.problems]
                ) from None
        return [fine_tuned_evaluation_stage(asked, subject) for subject in asked.encoders]
