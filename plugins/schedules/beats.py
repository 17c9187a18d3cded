"""The iterations of BEATs as stages: a tokenizer, an encoder pre-trained on its tokens, and so on. Needs no torch.

Notable choices:

- An iteration names its teacher separately from its tokenizer, so any encoder can teach any tokenizer.
- Every iteration has a different seed, so no encoder starts with the initial weights of its teacher. A control shares
  the seed of the iteration that it follows, so the two differ only in what the control changes.
- If the objective does not learn from tokens, no tokenizer is made, so an experiment changes its objective in one
  place.
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
"""Difference between the seeds of successive iterations, larger than the range of an ablation's seeds."""


class TeacherConfig(Config):
    """An encoder that teaches a tokenizer."""

    of: str = PREVIOUS
    """`previous`, `untrained` (a control) or the name of an earlier iteration. `previous` skips controls."""

    checkpoint: Path | None = Field(default=None, strict=False)
    """A released file, an artifact or a run whose encoder is the teacher, instead of an encoder of this experiment."""

    fine_tune: FineTuningConfig | None = None
    """Fine-tune the teacher on labels first (BEATs, iteration 3+). With `target: logits` it teaches its classes."""

    corpus: CorpusChoice | None = None
    """The labelled corpus that it is fine-tuned on. By default the corpus of the experiment."""

    @model_validator(mode="after")
    def _check_corpus(self) -> Self:
        if self.corpus is not None and self.fine_tune is None:
            raise ValueError("`corpus` is only used to fine-tune the teacher: set `fine_tune`, or remove `corpus`")
        if self.checkpoint is not None and self.of != PREVIOUS:
            raise ValueError(f"the teacher is either `of: {self.of}` or a `checkpoint`, not both: remove one")
        return self


class _ByName:
    """An annotation that reads `teacher: NAME` as `teacher: {of: NAME}`, also after a mapping was merged into it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(TeacherConfig.__pydantic_core_schema__)]}

    def _read(self, stated: Any, info: ValidationInfo) -> TeacherConfig:
        if isinstance(stated, str):
            stated = {"of": stated}
        elif isinstance(stated, dict) and "type" in stated:
            # The merge of documents treats a bare name as the name of a part, and so makes it the `type`.
            stated = {"of": stated["type"], **{key: value for key, value in stated.items() if key != "type"}}
        if info.mode == "json":
            return TeacherConfig.model_validate_json(json.dumps(stated), context=info.context)
        return TeacherConfig.model_validate(stated, context=info.context)


class IterationConfig(Config):
    """One iteration: a tokenizer, and an encoder pre-trained from scratch on its tokens or without tokens."""

    name: str | None = None
    """Display name. By default `iteration 1`, `iteration 2`, …"""

    tokenizer: TokenizerChoice | None = None
    """The tokenizer of this iteration. Neither needed nor made if the objective does not learn from tokens."""

    teacher: Annotated[TeacherConfig, _ByName()] | None = None
    """The encoder that teaches the tokenizer: a name, such as `previous`, or a mapping. By default `previous`, if the
    tokenizer needs a teacher."""

    control: bool = False
    """Whether the iteration is a control, which only shows what a gain must exceed. Reports compare the others with
    it."""

    seed: int | None = Field(default=None, ge=1)
    """Iterations with equal numbers start from the same weights and get their clips in the same order. By default, the
    number of the iteration. A control has that of the last iteration before it that is not a control."""

    distill: TokenizerTrainingConfig | None = None
    """How the tokenizer is trained. By default as the schedule states."""

    pretrain: PretrainConfig | None = None
    """How the encoder is pre-trained. By default as the experiment states."""

    @property
    def taught_by(self) -> TeacherConfig:
        """The teacher, if the tokenizer needs one."""
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
    """How tokenizers are trained. Required if a tokenizer is trained."""

    iterations: tuple[IterationConfig, ...] = Field(min_length=1)
    """The iterations, in order."""

    start: ClassVar[str] = UNTRAINED
    """Display name of the encoder that every iteration starts from."""
    start_teaches: ClassVar[bool] = False
    """Whether that encoder is `previous` in the first iteration."""

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        stated = [iteration.taught_by.checkpoint for iteration in self.iterations]
        checkpoints = [EncoderCheckpointConfig(path=path) for path in stated if path is not None]
        return [problem for checkpoint in checkpoints for problem in checkpoint.check_compatibility(context)]

    @property
    def names(self) -> list[str]:
        """The display name of each iteration."""
        return [iteration.name or f"iteration {number}" for number, iteration in enumerate(self.iterations, start=1)]

    def seed_of(self, number: int) -> int:
        """The offset of an iteration's seed from that of the experiment, a multiple of `SEED_STRIDE`.

        It is never 0, the offset of the untrained encoder. Otherwise an iteration that has the untrained encoder as its
        teacher would start from the weights of its teacher.
        """
        stated = self.iterations[number].seed
        if stated is not None:
            return SEED_STRIDE * stated
        if number and self.iterations[number].control:
            return self.seed_of(number - 1)
        return SEED_STRIDE * (number + 1)

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
        """Report what is wrong with an iteration, given the earlier ones."""
        iteration, name = self.iterations[number], self.names[number]
        if iteration.tokenizer is None:
            if iteration.teacher is not None:
                yield f"{name}: `teacher` needs a tokenizer to teach, but there is none; remove `teacher`"
            return
        tokenizer = iteration.tokenizer.name
        if iteration.is_trained and not (iteration.distill or self.distill):
            yield f"{name}: tokenizer `{tokenizer}` is trained: set `distill`, such as `distill: {{steps: 500}}`"
        if iteration.teacher is not None and not iteration.needs_teacher:
            yield f"{name}: tokenizer `{tokenizer}` does not learn from a teacher; remove `teacher`"
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
    """Surveys the corpus, prepares a tokenizer and pre-trains in every iteration, and evaluates all encoders."""

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
        seed = experiment.seed + self.config.seed_of(number)
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
        """List the stages that make an iteration's tokenizer, which is made by the last one."""
        iteration, title = self.config.iterations[number], self.config.names[number]
        if iteration.tokenizer is None:
            objective = (iteration.pretrain or experiment.pretrain).objective.name
            raise ConfigError([Problem("schedule", f"{title}: {NO_TOKENIZER.format(objective=objective)}")])
        seed = experiment.seed + self.config.seed_of(number)
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
        """Return the name of the stage whose encoder teaches, and the additional stages that it needs."""
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
            previous = [self.config.start, *(name for name, iteration in earlier if not iteration.control)][-1]
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
            label_seed=experiment.seed,
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
    """Iterations that continue from a checkpoint on other audio. In the first, `previous` is the checkpoint."""

    start: ClassVar[str] = CHECKPOINT
    start_teaches: ClassVar[bool] = True


class ContinueSchedule(BeatsSchedule):
    """Pre-trains the encoder of a checkpoint further. Reports compare the result with the original checkpoint."""

    def stages(self, experiment: Experiment) -> list[Stage]:
        """List the stages.

        Raises:
            ConfigError: if the experiment's encoder is not a checkpoint
        """
        if experiment.encoder.name != CHECKPOINT:
            raise ConfigError([Problem("encoder", f"{NO_CHECKPOINT}, but is `{experiment.encoder.name}`. {REMEDY}")])
        return super().stages(experiment)


NO_CHECKPOINT = "must be a checkpoint for schedule `continue` to start from"
REMEDY = "Write `encoder: {checkpoint: PATH}` and `front_end: {checkpoint: PATH}`, or use schedule `beats`."
