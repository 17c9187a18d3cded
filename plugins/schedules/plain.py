"""The simplest schedules: no pre-training, or a single one. Need no torch."""

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
    """No pre-training: a randomly initialised encoder. If a task fine-tunes it, it is the supervised baseline."""


class Scratch(Schedule):
    """Evaluates an untrained encoder."""

    def __init__(self, config: ScratchConfig) -> None:
        self.config = config

    def stages(self, experiment: Experiment) -> list[Stage]:
        survey = survey_stage(experiment, experiment.corpus)
        start = start_stage(UNTRAINED, experiment, survey=survey.name)
        return [survey, start, *evaluation_stages(experiment, {UNTRAINED: start.name}, survey=survey.name)]


class SingleConfig(IterationConfig):
    """One pre-training, on the tokens of one tokenizer or with an objective that needs no tokens."""

    @property
    def as_schedule(self) -> BeatsScheduleConfig:
        """A schedule with this as its only iteration."""
        return BeatsScheduleConfig.model_construct(iterations=(self,))

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        return self.as_schedule.check_compatibility(context)

    @model_validator(mode="after")
    def _check_teacher(self) -> Self:
        if problems := list(self.as_schedule.problems_of(0)):
            raise ValueError("; ".join(problems))
        return self


class Single(BeatsSchedule):
    """Prepares one tokenizer, if the objective needs one, and pre-trains."""

    def __init__(self, config: SingleConfig) -> None:
        super().__init__(config.as_schedule)
