"""BEATs' iterations as stages: a tokenizer, an encoder pre-trained on its tokens, and so on. Needs no torch.

Notable choices: an iteration names its teacher, not its tokenizer, so that any tokenizer can be taught by any encoder;
from the second iteration on every one has a seed of its own, so that no encoder starts as its teacher did. A tokenizer
is not made where the objective learns from no tokens, so that an experiment changes its objective in one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo, model_validator
from pydantic_core import CoreSchema, core_schema

from ossicle.audio.stage_specs import survey_stage
from ossicle.checkpoints.checkpoint_config import EncoderCheckpointConfig
from ossicle.core.choices import CHECKPOINT, CorpusChoice, TokenizerChoice
from ossicle.core.config import Config, ObjectiveConfig, TokenizerConfig
from ossicle.core.errors import ConfigError, Problem
from ossicle.core.experiment import PretrainConfig
from ossicle.core.stages import Schedule, Stage
from ossicle.core.wording import choices
from ossicle.tasks.evaluation.stage_specs import evaluation_stages
from ossicle.tasks.stages.fine_tune_config import FineTuningConfig
from ossicle.tasks.stages.specs import (
    UNTRAINED,
    FineTuneStage,
    ImportStage,
    pretrain_stage,
    start_stage,
    tokenizer_stage,
    tokens_stage,
)
from ossicle.tasks.stages.tokenizer_training_config import TokenizerTrainingConfig

if TYPE_CHECKING:
    from ossicle.core.experiment import Experiment

PREVIOUS = "previous"
SEED_STRIDE = 10_000
"""Between the seeds of successive iterations; a gap that the seeds of an ablation do not bridge."""


class TeacherConfig(Config):
    """An encoder that teaches a tokenizer."""

    of: str = PREVIOUS
    """`previous`, `untrained` (a control) or the name of an earlier iteration; `previous` passes over controls."""

    checkpoint: Path | None = Field(default=None, strict=False)
    """A released file, an artifact or a run whose encoder teaches, instead of one of this experiment."""

    fine_tune: FineTuningConfig | None = None
    """Fine-tune it on labels first (BEATs, iteration 3+); with `target: logits` its classes are what is taught."""

    corpus: CorpusChoice | None = None
    """The labelled corpus that it is fine-tuned on; the experiment's own when absent."""

    @model_validator(mode="after")
    def _check_corpus(self) -> Self:
        if self.corpus is not None and self.fine_tune is None:
            raise ValueError("`corpus` is what the teacher is fine-tuned on: say how in `fine_tune`, or leave it out")
        if self.checkpoint is not None and self.of != PREVIOUS:
            raise ValueError(f"the teacher is either `of: {self.of}` or a `checkpoint`, not both: leave one out")
        return self


class _ByName:
    """Reads `teacher: NAME` as `teacher: {of: NAME}`, also where something was laid over the name."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(TeacherConfig.__pydantic_core_schema__)]}

    def _read(self, stated: Any, info: ValidationInfo) -> TeacherConfig:
        if isinstance(stated, str):
            stated = {"of": stated}
        elif isinstance(stated, dict) and "type" in stated:
            # What is laid over a name takes it for that of a part.
            stated = {"of": stated["type"], **{key: value for key, value in stated.items() if key != "type"}}
        if info.mode == "json":
            return TeacherConfig.model_validate_json(json.dumps(stated), context=info.context)
        return TeacherConfig.model_validate(stated, context=info.context)


class IterationConfig(Config):
    """One turn: a tokenizer, and an encoder pre-trained from scratch on its tokens, or by an objective without any."""

    name: str | None = None
    """What people call it; `iteration 1`, `iteration 2`, … when absent."""

    tokenizer: TokenizerChoice | None = None
    """Gives the tokens of this iteration; neither needed nor made where the objective learns from none."""

    teacher: Annotated[TeacherConfig, _ByName()] | None = None
    """The encoder that teaches the tokenizer: a name, such as `previous`, or a mapping; `previous` when absent and the
    tokenizer needs a teacher."""

    control: bool = False
    """Whether it is there to show what a gain must exceed: reports hold the others against it."""

    distill: TokenizerTrainingConfig | None = None
    """How the tokenizer is trained, if otherwise than the schedule says."""

    pretrain: PretrainConfig | None = None
    """How the encoder is pre-trained, if otherwise than the experiment says."""

    @property
    def taught_by(self) -> TeacherConfig:
        """The teacher, where the tokenizer needs one."""
        return self.teacher or TeacherConfig()

    @property
    def needs_teacher(self) -> bool:
        """Whether its tokenizer learns from an encoder."""
        config = self.tokenizer and self.tokenizer.config
        return isinstance(config, TokenizerConfig) and config.needs_teacher

    @property
    def is_trained(self) -> bool:
        """Whether its tokenizer is trained through an objective."""
        config = self.tokenizer and self.tokenizer.config
        return isinstance(config, TokenizerConfig) and config.objective is not None


class BeatsScheduleConfig(Config):
    """Iterations of BEATs (arXiv 2212.09058, figure 2), each from a fresh encoder."""

    distill: TokenizerTrainingConfig | None = None
    """How tokenizers are trained; needed when one is."""

    iterations: tuple[IterationConfig, ...] = Field(min_length=1)
    """The iterations, in order."""

    start: ClassVar[str] = UNTRAINED
    """What people call the encoder that every iteration starts from."""
    start_teaches: ClassVar[bool] = False
    """Whether that encoder counts as the one before the first iteration."""

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        stated = [iteration.taught_by.checkpoint for iteration in self.iterations]
        checkpoints = [EncoderCheckpointConfig(path=path) for path in stated if path is not None]
        return [problem for checkpoint in checkpoints for problem in checkpoint.check_compatibility(context)]

    @property
    def names(self) -> list[str]:
        """What people call each iteration."""
        return [iteration.name or f"iteration {number}" for number, iteration in enumerate(self.iterations, start=1)]

    @model_validator(mode="after")
    def _check_teachers(self) -> Self:
        if len(set(self.names)) < len(self.names) or {self.start, PREVIOUS} & set(self.names):
            raise ValueError(
                f"iterations need different names, none of them `{self.start}` or `{PREVIOUS}`, but are called "
                f"{', '.join(self.names)}"
            )
        problems = [problem for number in range(len(self.iterations)) for problem in self.problems_of(number)]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def problems_of(self, number: int) -> Iterator[str]:
        """What is wrong with an iteration, given those before it."""
        iteration, name = self.iterations[number], self.names[number]
        if iteration.tokenizer is None:
            if iteration.teacher is not None:
                yield f"{name}: a teacher teaches a tokenizer, and there is none; leave `teacher` out"
            return
        tokenizer = iteration.tokenizer.name
        if iteration.is_trained and not (iteration.distill or self.distill):
            yield f"{name}: tokenizer `{tokenizer}` is trained: say how in `distill`, such as `distill: {{steps: 500}}`"
        if iteration.teacher is not None and not iteration.needs_teacher:
            yield f"{name}: tokenizer `{tokenizer}` learns from no teacher; leave `teacher` out"
        allowed = [self.start, *self.names[:number]]
        has_previous = self.start_teaches or not all(earlier.control for earlier in self.iterations[:number])
        if iteration.taught_by.checkpoint is not None:
            return
        teacher = iteration.taught_by.of
        if iteration.needs_teacher and not has_previous and teacher == PREVIOUS:
            yield f"{name}: there is no previous encoder to teach tokenizer `{tokenizer}`. {choices('', allowed)}"
        elif teacher not in (PREVIOUS, *allowed):
            allowed.insert(0, PREVIOUS)
            yield f"{name}: there is no teacher `{teacher}`. {choices(teacher, allowed)}"


class BeatsSchedule(Schedule):
    """Survey the corpus, then for every iteration prepare the tokenizer and pre-train; judge all encoders last."""

    def __init__(self, config: BeatsScheduleConfig) -> None:
        self.config = config

    def stages(self, experiment: Experiment) -> list[Stage]:
        """List the stages.

        Raises:
            ConfigError: if an objective learns from tokens, but has no tokenizer
        """
        survey = survey_stage(experiment, experiment.corpus)
        start = start_stage(self.config.start, experiment, survey=survey.name)
        stages: list[Stage] = [survey, start]
        encoders = {self.config.start: start.name}
        tokenizers = {}
        for number, title in enumerate(self.config.names):
            made = self._iteration(experiment, number, survey.name, encoders)
            stages += made
            encoders[title] = made[-1].name
            if "tokenizer" in made[-1].inputs:
                tokenizers[title] = made[-1].inputs["tokenizer"]
        stages += [
            tokens_stage(experiment, tokenizer, survey=survey.name, subject=title)
            for title, tokenizer in tokenizers.items()
        ]
        return stages + evaluation_stages(experiment, encoders, survey=survey.name)

    def _iteration(self, experiment: Experiment, number: int, survey: str, encoders: Mapping[str, str]) -> list[Stage]:
        iteration, title = self.config.iterations[number], self.config.names[number]
        seed = experiment.seed + SEED_STRIDE * number
        training = iteration.pretrain or experiment.pretrain
        tokenizing: list[Stage] = []
        if _learns_from_tokens(training):
            tokenizing = self._tokenizer_stages(experiment, number, survey, encoders)
        encoder = pretrain_stage(
            f"{title}/pretrain",
            experiment,
            survey=survey,
            tokenizer=tokenizing[-1].name if tokenizing else None,
            seed=seed,
            training=training,
            subject=title,
            control=iteration.control,
        )
        return [*tokenizing, encoder]

    def _tokenizer_stages(
        self, experiment: Experiment, number: int, survey: str, encoders: Mapping[str, str]
    ) -> list[Stage]:
        """The stages that make an iteration's tokenizer, itself last."""
        iteration, title = self.config.iterations[number], self.config.names[number]
        if iteration.tokenizer is None:
            objective = (iteration.pretrain or experiment.pretrain).objective.name
            raise ConfigError([Problem("schedule", f"{title}: {NO_TOKENIZER.format(objective=objective)}")])
        seed = experiment.seed + SEED_STRIDE * number
        teaching: list[Stage] = []
        teacher = None
        if iteration.needs_teacher:
            teacher, teaching = self._teacher(experiment, number, seed, encoders)
        tokenizer = tokenizer_stage(
            f"{title}/tokenizer",
            experiment,
            iteration.tokenizer,
            survey=survey,
            seed=seed,
            training=(iteration.distill or self.config.distill) if iteration.is_trained else None,
            teacher=teacher,
        )
        return [*teaching, tokenizer]

    def _teacher(
        self, experiment: Experiment, number: int, seed: int, encoders: Mapping[str, str]
    ) -> tuple[str, list[Stage]]:
        """The stage whose encoder teaches, and the stages that it takes besides the iterations'."""
        stated = self.config.iterations[number].taught_by
        title = self.config.names[number]
        made: list[Stage] = []
        if stated.checkpoint is not None:
            checkpoint = EncoderCheckpointConfig(path=stated.checkpoint)
            tags = {"checkpoint": checkpoint.path.name}
            made.append(ImportStage(name=f"{title}/checkpoint", checkpoint=checkpoint, tags=tags))
            source = made[0].name
        else:
            earlier = zip(self.config.names[:number], self.config.iterations[:number], strict=True)
            previous = [self.config.start, *(name for name, turn in earlier if not turn.control)][-1]
            source = encoders[previous if stated.of == PREVIOUS else stated.of]
        if stated.fine_tune is None:
            return source, made
        corpus = stated.corpus or experiment.corpus
        survey = survey_stage(experiment, corpus)
        tuned = FineTuneStage(
            name=f"{title}/teacher",
            training=stated.fine_tune,
            corpus=corpus,
            inputs={"encoder": source, "survey": survey.name},
            seed=seed,
        )
        return tuned.name, [*made, survey, tuned]


def _learns_from_tokens(training: PretrainConfig) -> bool:
    config = training.objective.config
    return config.needs_tokenizer if isinstance(config, ObjectiveConfig) else True


NO_TOKENIZER = (
    "objective `{objective}` learns from tokens, but there is no tokenizer: add one, such as "
    "`tokenizer: random_projection`, or choose an objective that needs none, such as `reconstruction`"
)


class ContinueScheduleConfig(BeatsScheduleConfig):
    """Iterations that go on from a checkpoint, on audio of one's own; `previous` is the checkpoint at first."""

    start: ClassVar[str] = CHECKPOINT
    start_teaches: ClassVar[bool] = True


class ContinueSchedule(BeatsSchedule):
    """Pre-train the encoder of a checkpoint further; reports hold the result against the checkpoint as it was."""

    def stages(self, experiment: Experiment) -> list[Stage]:
        """List the stages.

        Raises:
            ConfigError: if the experiment's encoder is no checkpoint
        """
        if experiment.encoder.name != CHECKPOINT:
            raise ConfigError([Problem("encoder", f"{NO_CHECKPOINT}, but is `{experiment.encoder.name}`. {REMEDY}")])
        return super().stages(experiment)


NO_CHECKPOINT = "must be a checkpoint for schedule `continue` to go on from"
REMEDY = "Write `encoder: {checkpoint: PATH}` and `front_end: {checkpoint: PATH}`, or use schedule `beats`."
