"""The stages that train, import, measure and fine-tune parts. Importable without torch."""

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
    """Make an encoder before any training, with random weights or the weights of a checkpoint.

    Attributes:
        encoder: the encoder to make
    """

    kind = "encoder"
    revision = 2
    action = "ossicle.tasks.stages.pretrain:initialise"

    encoder: PartChoice


@dataclass(frozen=True, kw_only=True)
class ImportStage(Stage):
    """Convert a checkpoint into an artifact that other stages can use, for example as a teacher.

    Attributes:
        checkpoint: the checkpoint to convert
    """

    kind = "import"
    action = "ossicle.tasks.stages.import_checkpoint:import_checkpoint"

    checkpoint: CheckpointConfig


@dataclass(frozen=True, kw_only=True)
class TokenizerStage(CorpusStage):
    """Prepare a tokenizer: draw it from its seed, fit it to a corpus, or train it there.

    Attributes:
        splits, batch_seconds, crop_seconds: the clips that it is fitted to, and how they are batched
        training: the configuration of the training; None if it is drawn or fitted
        encoder: the encoder of the experiment, whose shape a trained tokenizer may copy; None without training
    """

    kind = "tokenizer"
    revision = 2
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
        encoder: the encoder to train, from scratch or from a checkpoint
        training: the configuration of the training, with the objective
    """

    kind = "pretrain"
    revision = 2
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
    """Measure the statistics of a tokenizer's tokens.

    Attributes:
        crop_seconds: length to which longer clips are cut, from their start
    """

    kind = "tokens"
    action = "ossicle.tasks.stages.token_statistics:measure"
    measures_tokens = True

    crop_seconds: float


@dataclass(frozen=True, kw_only=True)
class FineTuneStage(CorpusStage):
    """Fine-tune an encoder on a corpus's labels, to classify or to teach. The artifact contains encoder and head.

    It trains on the clips of `train`, or on those of all folds if the corpus has folds and no `test` split.

    Attributes:
        training: the configuration of the training
        label_seed: draws the share of the labels, the same as for the evaluations of the experiment, so that a teacher
            and its students know the same labels
    """

    kind = "fine_tune"
    action = "ossicle.tasks.stages.fine_tune:fine_tune"
    objective_builder = "ossicle.tasks.stages.fine_tune:objective_of"
    learns_labels = True

    training: FineTuningConfig
    label_seed: int = 0

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
    """Create the stage that makes the encoder before any pre-training, the baseline."""
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
    """Create the stage that prepares a tokenizer on the experiment's corpus.

    Args:
        training: the configuration of the training; only for a tokenizer whose configuration names an objective
        teacher: name of the stage whose encoder is the teacher
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
    """Create the stage that pre-trains the experiment's encoder.

    Args:
        tokenizer: name of the stage whose tokenizer gives the targets; None if the objective needs no tokenizer
        subject: display name of the encoder
        control: whether it is a control, whose gain the others must exceed
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
    """Return what is known before training about the teacher of a stage, for `Config.check_compatibility`.

    The facts are `teacher_width`, `teacher_layers`, and `teacher_classes`, which is present only if it is known to be
    0. Empty for a stage without a teacher.

    Args:
        stages: all stages by name
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
    """Create the stage that measures a tokenizer's tokens on the corpus of the experiment."""
    corpus = experiment.corpus_display_name(experiment.corpus)
    return TokensStage(
        name=f"tokens/{corpus}/{subject}",
        corpus=experiment.corpus,
        crop_seconds=experiment.pretrain.crop_seconds,
        inputs={"tokenizer": tokenizer, "survey": survey},
        seed=experiment.seed,
        tags={"corpus": corpus, "subject": subject},
    )


def fine_tuned_evaluation_stage(assignment: Assignment, subject: str) -> FineTunedEvaluationStage:
    """Create the stage that fine-tunes and evaluates an encoder.

    Args:
        subject: one of `assignment.encoders`
    """
    return FineTunedEvaluationStage(
        name=f"{assignment.title}/{assignment.corpus_display_name}/{subject}",
        corpus=assignment.corpus,
        task=assignment.task,
        inputs={"encoder": assignment.encoders[subject], "survey": assignment.survey},
        seed=assignment.experiment.seed,
        tags={"task": assignment.title, "corpus": assignment.corpus_display_name, "subject": subject},
    )
