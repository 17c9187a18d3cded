"""BEATs' iterations as stages: a tokenizer, an encoder pre-trained on its labels, and so on. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ossicle.audio.stages import survey_stage
from ossicle.core.config import Config, TokenizerChoice
from ossicle.core.stages import Schedule, Stage
from ossicle.tasks.stages import UNTRAINED, evaluation_stages, pretrain_stage, untrained_stage
from ossicle.tokenizers.stages import tokenizer_stage

if TYPE_CHECKING:
    from ossicle.core.experiment import Experiment


class IterationConfig(Config):
    """One turn: a tokenizer, and an encoder pre-trained from scratch on its labels."""

    tokenizer: TokenizerChoice
    """Gives the labels of this iteration."""


class BeatsScheduleConfig(Config):
    """Iterations of BEATs (arXiv 2212.09058, figure 2), each from a fresh encoder."""

    iterations: tuple[IterationConfig, ...] = Field(min_length=1)
    """The iterations, in order."""


class BeatsSchedule(Schedule):
    """Survey the corpus, then for every iteration prepare the tokenizer and pre-train; judge all encoders last."""

    def __init__(self, config: BeatsScheduleConfig) -> None:
        self.config = config

    def stages(self, experiment: Experiment) -> list[Stage]:
        survey = survey_stage(experiment, experiment.corpus)
        untrained = untrained_stage(experiment, survey=survey.name)
        stages = [survey, untrained]
        encoders = {UNTRAINED: untrained.name}
        for number, iteration in enumerate(self.config.iterations, start=1):
            title = f"iteration {number}"
            tokenizer = tokenizer_stage(
                f"{title}/tokenizer",
                iteration.tokenizer,
                corpus=experiment.corpus,
                survey=survey.name,
                training=experiment.pretrain,
                seed=experiment.seed,
            )
            encoder = pretrain_stage(f"{title}/pretrain", experiment, survey=survey.name, tokenizer=tokenizer.name)
            stages += [tokenizer, encoder]
            encoders[title] = encoder.name
        return stages + evaluation_stages(experiment, encoders, survey=survey.name)
