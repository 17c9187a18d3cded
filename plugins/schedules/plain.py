"""The plainest schedules: no pre-training at all, or a single one. Need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from ossicle.audio.stage_specs import survey_stage
from ossicle.core.config import Config
from ossicle.core.stages import Schedule, Stage
from ossicle.plugins.schedules.beats import BeatsSchedule, BeatsScheduleConfig, IterationConfig
from ossicle.tasks.evaluation.stage_specs import evaluation_stages
from ossicle.tasks.stages.specs import UNTRAINED, start_stage

if TYPE_CHECKING:
    from ossicle.core.experiment import Experiment


class ScratchConfig(Config):
    """No pre-training: the encoder as its seed draws it, the supervised baseline where a task fine-tunes it."""


class Scratch(Schedule):
    """Judge an encoder that nothing has taught."""

    def __init__(self, config: ScratchConfig) -> None:
        self.config = config

    def stages(self, experiment: Experiment) -> list[Stage]:
        survey = survey_stage(experiment, experiment.corpus)
        start = start_stage(UNTRAINED, experiment, survey=survey.name)
        return [survey, start, *evaluation_stages(experiment, {UNTRAINED: start.name}, survey=survey.name)]


class SingleConfig(IterationConfig):
    """One pre-training, on the tokens of one tokenizer or by an objective that needs none."""

    @property
    def alone(self) -> BeatsScheduleConfig:
        """The schedule whose only iteration this is."""
        return BeatsScheduleConfig.model_construct(iterations=(self,))

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        return self.alone.check_compatibility(context)

    @model_validator(mode="after")
    def _check_alone(self) -> Self:
        if problems := list(self.alone.problems_of(0)):
            raise ValueError("; ".join(problems))
        return self


class Single(BeatsSchedule):
    """Prepare one tokenizer, if the objective needs one, and pre-train."""

    def __init__(self, config: SingleConfig) -> None:
        super().__init__(config.alone)
