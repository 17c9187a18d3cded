"""The stages that train and import parts, and those that measure or fine-tune them; importable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.catalog import Catalog
from ...core.choices import PartChoice
from ...core.config import Config
from ...core.experiment import PretrainConfig, TrainingConfig
from ...core.stages import CorpusStage, Stage
from ...core.task import Assignment

if TYPE_CHECKING:
    from ...checkpoints.checkpoint_config import CheckpointConfig
    from ...core.experiment import Experiment
    from .fine_tune_config import FineTuningConfig
    from .tokenizer_training_config import TokenizerTrainingConfig

UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True)
class EncoderStage(Stage):
    """Make an encoder as its seed draws it or a checkpoint has it, before any training.

    Attributes:
        encoder: the part
    """

    kind = "encoder"
    action = "ossicle.tasks.stages.pretrain:initialise"

    encoder: PartChoice


@dataclass(frozen=True, kw_only=True)
class ImportStage(Stage):
    """Make an artifact of a checkpoint, for stages that take one, such as a teacher.

    Attributes:
        checkpoint: where it is
    """

    kind = "import"
    action = "ossicle.tasks.stages.import_checkpoint:import_checkpoint"

    checkpoint: CheckpointConfig


@dataclass(frozen=True, kw_only=True)
class TokenizerStage(CorpusStage):
    """Draw a tokenizer, fit it to a corpus, or train it there.

    Attributes:
        splits, batch_seconds, crop_seconds: the clips that it is fitted to, and how they are batched
        training: how it is trained; None if it is drawn or fitted
        encoder: the encoder of the experiment, whose shape a trained tokenizer may take over; None without training
    """

    kind = "tokenizer"
    action = "ossicle.tasks.stages.tokenizer:prepare"
    objective_builder = "ossicle.tasks.stages.tokenizer:objective_of"

    tokenizer: PartChoice
    splits: tuple[str, ...]
    batch_seconds: float
    crop_seconds: float
    training: TokenizerTrainingConfig | None = None
    encoder: PartChoice | None = None

    @property
    def training_config(self) -> TrainingConfig | None:
        return self.training


@dataclass(frozen=True, kw_only=True)
class PretrainStage(CorpusStage):
    """Pre-train an encoder.

    Attributes:
        encoder: the part, from scratch or out of a checkpoint
        training: how, and by which objective
    """

    kind = "pretrain"
    action = "ossicle.tasks.stages.pretrain:pretrain"
    objective_builder = "ossicle.tasks.stages.pretrain:objective_of"
    makes_encoder = True

    encoder: PartChoice
    training: PretrainConfig

    @property
    def training_config(self) -> TrainingConfig:
        return self.training


@dataclass(frozen=True, kw_only=True)
class TokensStage(CorpusStage):
    """Measure what the labels of a tokenizer hold.

    Attributes:
        crop_seconds: of longer clips only the first so many seconds are used
    """

    kind = "tokens"
    action = "ossicle.tasks.stages.token_statistics:measure"
    measures_tokens = True

    crop_seconds: float


@dataclass(frozen=True, kw_only=True)
class FineTuneStage(CorpusStage):
    """Fine-tune an encoder on a corpus's labels, to classify or to teach; the artifact holds encoder and head.

    It learns from the clips of `train`, or from those of all folds where the corpus has folds and no `test` split.

    Attributes:
        training: how
    """

    kind = "fine_tune"
    action = "ossicle.tasks.stages.fine_tune:fine_tune"
    objective_builder = "ossicle.tasks.stages.fine_tune:objective_of"
    learns_labels = True

    training: FineTuningConfig

    @property
    def training_config(self) -> TrainingConfig:
        return self.training


@dataclass(frozen=True, kw_only=True)
class FineTunedEvaluationStage(CorpusStage):
    """Fine-tune an encoder on a corpus's training clips and score it on the test clips, fold by fold if it has folds.

    Attributes:
        task: a part whose configuration is a `FineTuneConfig`
    """

    kind = "evaluate_fine_tuned"
    action = "ossicle.tasks.stages.fine_tune:evaluate"
    objective_builder = "ossicle.tasks.stages.fine_tune:objective_of"
    is_evaluation = True

    task: PartChoice

    @property
    def training_config(self) -> TrainingConfig:
        assert isinstance(self.task.config, TrainingConfig)
        return self.task.config


def start_stage(name: str, experiment: Experiment, *, survey: str) -> EncoderStage:
    """The encoder before any pre-training: the baseline to beat."""
    return EncoderStage(name=name, encoder=experiment.encoder, inputs={"survey": survey}, seed=experiment.seed)


def tokenizer_stage(
    name: str,
    experiment: Experiment,
    tokenizer: PartChoice,
    *,
    survey: str,
    seed: int,
    training: TokenizerTrainingConfig | None = None,
    teacher: str | None = None,
) -> TokenizerStage:
    """Prepare a tokenizer on the experiment's corpus.

    Args:
        training: how it is trained; needed by a tokenizer whose configuration names an objective, and by no other
        teacher: the stage whose encoder it learns from
    """
    return TokenizerStage(
        name=name,
        tokenizer=tokenizer,
        corpus=experiment.corpus,
        splits=experiment.pretrain.splits,
        batch_seconds=experiment.pretrain.batch_seconds,
        crop_seconds=experiment.pretrain.crop_seconds,
        training=training,
        encoder=None if training is None else experiment.encoder,
        inputs={"survey": survey} if teacher is None else {"survey": survey, "teacher": teacher},
        seed=seed,
    )


def pretrain_stage(
    name: str,
    experiment: Experiment,
    *,
    survey: str,
    tokenizer: str | None,
    seed: int,
    training: PretrainConfig,
    subject: str,
    control: bool = False,
) -> PretrainStage:
    """Pre-train the experiment's encoder.

    Args:
        tokenizer: the stage whose tokenizer gives the labels; None where the objective learns from none
        subject: what reports call the encoder
        control: whether it is there to show what a gain must exceed
    """
    return PretrainStage(
        name=name,
        encoder=experiment.encoder,
        corpus=experiment.corpus,
        training=training,
        inputs={"survey": survey} if tokenizer is None else {"survey": survey, "tokenizer": tokenizer},
        seed=seed,
        tags={"subject": subject, "control": control},
    )


def teacher_facts(stage: Stage, stages: Mapping[str, Stage], catalog: Catalog) -> Mapping[str, object]:
    """What is known before training about the encoder that a stage learns from, for `Config.check_compatibility`.

    `teacher_width` and `teacher_layers`, and `teacher_classes`, which is 0, where it surely has no classifier. Nothing
    for a stage without a teacher.

    Args:
        stages: all stages by their names
        catalog: the experiment's catalog
    """
    if "teacher" not in stage.inputs:
        return {}
    teacher = stages[stage.inputs["teacher"]]
    known: dict[str, object] = {"teacher_classes": 0} if isinstance(teacher, EncoderStage | PretrainStage) else {}
    while "encoder" in teacher.inputs:  # a fine-tuned encoder has the shape of the one before it
        teacher = stages[teacher.inputs["encoder"]]
    source = teacher.settings.get("encoder", teacher.settings.get("checkpoint"))
    config = source.config if isinstance(source, PartChoice) else source
    if isinstance(config, Config):
        shape = config.compatibility_facts(catalog)
        known |= {f"teacher_{name}": shape.get(f"encoder_{name}") for name in ("width", "layers")}
    return known


def tokens_stage(experiment: Experiment, tokenizer: str, *, survey: str, subject: str) -> TokensStage:
    """Measure what the labels of a tokenizer hold, on the experiment's own corpus."""
    corpus = experiment.corpus_display_name(experiment.corpus)
    return TokensStage(
        name=f"tokens/{corpus}/{subject}",
        corpus=experiment.corpus,
        crop_seconds=experiment.pretrain.crop_seconds,
        inputs={"tokenizer": tokenizer, "survey": survey},
        seed=experiment.seed,
        tags={"corpus": corpus, "subject": subject},
    )


def fine_tuned_evaluation_stage(asked: Assignment, subject: str) -> FineTunedEvaluationStage:
    """Fine-tune and evaluate an encoder.

    Args:
        subject: one of `asked.encoders`
    """
    return FineTunedEvaluationStage(
        name=f"{asked.title}/{asked.corpus_display_name}/{subject}",
        corpus=asked.corpus,
        task=asked.task,
        inputs={"encoder": asked.encoders[subject], "survey": asked.survey},
        seed=asked.experiment.seed,
        tags={"task": asked.title, "corpus": asked.corpus_display_name, "subject": subject},
    )
