"""The stages that learn and that judge; importable without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...audio.stage_specs import survey_stage
from ...core.catalog import Catalog
from ...core.choices import PartChoice
from ...core.config import Config
from ...core.stages import Stage
from ...core.task import Assignment, TaskConfig

if TYPE_CHECKING:
    from ...checkpoints.checkpoint_config import CheckpointConfig
    from ...core.experiment import Experiment, PretrainConfig
    from .fine_tune_config import FineTuningConfig
    from .tokenizer_training_config import TokenizerTrainingConfig

UNTRAINED = "untrained"
LOG_MEL = "log-mel"


def start_stage(name: str, experiment: Experiment, *, survey: str) -> Stage:
    """The encoder before any pre-training, as its seed draws it or a checkpoint has it: the baseline to beat."""
    return Stage(
        name=name,
        kind="encoder",
        action="ossicle.tasks.stages.pretrain:initialise",
        settings={"encoder": experiment.encoder},
        inputs={"survey": survey},
        seed=experiment.seed,
    )


def import_stage(name: str, checkpoint: CheckpointConfig) -> Stage:
    """Make an artifact of a checkpoint, for stages that take one, such as a teacher."""
    return Stage(
        name=name,
        kind="import",
        action="ossicle.tasks.stages.import_checkpoint:import_checkpoint",
        settings={"checkpoint": checkpoint},
        labels={"checkpoint": checkpoint.path.name},
    )


def tokenizer_stage(
    name: str,
    experiment: Experiment,
    tokenizer: PartChoice,
    *,
    survey: str,
    seed: int,
    training: TokenizerTrainingConfig | None = None,
    teacher: str | None = None,
) -> Stage:
    """Draw a tokenizer, fit it to the experiment's corpus, or train it there.

    Args:
        training: how it is trained; needed by a tokenizer whose configuration names an objective, and by no other
        teacher: the stage whose encoder it learns from
    """
    settings = {
        "tokenizer": tokenizer,
        "corpus": experiment.corpus,
        "splits": experiment.pretrain.splits,
        "batch_seconds": experiment.pretrain.batch_seconds,
        "crop_seconds": experiment.pretrain.crop_seconds,
    }
    if training is not None:
        settings |= {"training": training, "encoder": experiment.encoder}
    return Stage(
        name=name,
        kind="tokenizer",
        action="ossicle.tasks.stages.tokenizer:prepare",
        settings=settings,
        inputs={"survey": survey} if teacher is None else {"survey": survey, "teacher": teacher},
        seed=seed,
        objective=None if training is None else "ossicle.tasks.stages.tokenizer:objective_of",
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
) -> Stage:
    """Pre-train the experiment's encoder.

    Args:
        tokenizer: the stage whose tokenizer gives the labels; None where the objective learns from none
        subject: what reports call the encoder
        control: whether it is there to show what a gain must exceed
    """
    return Stage(
        name=name,
        kind="pretrain",
        action="ossicle.tasks.stages.pretrain:pretrain",
        settings={"encoder": experiment.encoder, "corpus": experiment.corpus, "training": training},
        inputs={"survey": survey} if tokenizer is None else {"survey": survey, "tokenizer": tokenizer},
        seed=seed,
        labels={"subject": subject, "control": control},
        objective="ossicle.tasks.stages.pretrain:objective_of",
    )


def teacher_facts(stage: Stage, stages: Mapping[str, Stage], catalog: Catalog) -> Mapping[str, object]:
    """What is known of the encoder that a stage learns from before any is trained, for `Config.check_compatibility`.

    `teacher_width` and `teacher_layers`, and `teacher_classes`, which is 0, where it surely has no classifier. Nothing
    of a stage without a teacher.

    Args:
        stages: all stages by their names
        catalog: the experiment's catalog
    """
    if "teacher" not in stage.inputs:
        return {}
    teacher = stages[stage.inputs["teacher"]]
    known: dict[str, object] = {"teacher_classes": 0} if teacher.kind in ("encoder", "pretrain") else {}
    while "encoder" in teacher.inputs:  # a fine-tuned encoder has the shape of the one before it
        teacher = stages[teacher.inputs["encoder"]]
    source = teacher.settings.get("encoder", teacher.settings.get("checkpoint"))
    config = source.config if isinstance(source, PartChoice) else source
    if isinstance(config, Config):
        shape = config.compatibility_facts(catalog)
        known |= {f"teacher_{name}": shape.get(f"encoder_{name}") for name in ("width", "layers")}
    return known


def tokens_stage(experiment: Experiment, tokenizer: str, *, survey: str, subject: str) -> Stage:
    """Measure what the labels of a tokenizer hold, on the experiment's own corpus."""
    corpus = experiment.corpus_display_name(experiment.corpus)
    return Stage(
        name=f"tokens/{corpus}/{subject}",
        kind="tokens",
        action="ossicle.tasks.stages.token_statistics:measure",
        settings={"corpus": experiment.corpus, "crop_seconds": experiment.pretrain.crop_seconds},
        inputs={"tokenizer": tokenizer, "survey": survey},
        seed=experiment.seed,
        labels={"corpus": corpus, "subject": subject},
    )


def evaluation_stages(experiment: Experiment, encoders: Mapping[str, str], *, survey: str) -> list[Stage]:
    """Judge encoders, and the log-mel baseline beside them, by every task of the experiment.

    Args:
        encoders: what people call each encoder to the name of the stage that makes it
        survey: the stage whose front end the log-mel baseline uses
    """
    stages = []
    seen: Counter[tuple[str, str]] = Counter()
    for task in experiment.evaluate:
        corpus = getattr(task.config, "corpus", None) or experiment.corpus
        title = task.config.title(task.name) if isinstance(task.config, TaskConfig) else task.name
        corpus_name = experiment.corpus_display_name(corpus)
        seen[title, corpus_name] += 1
        repeat = seen[title, corpus_name]
        title = title if repeat == 1 else f"{title} {repeat}"
        task_survey = survey_stage(experiment, corpus)
        asked = Assignment(experiment, task, title, corpus, task_survey.name, encoders)
        own = task.config.stages(asked) if isinstance(task.config, TaskConfig) else None
        stages += [task_survey, *(own if own is not None else _usual_stages(asked, survey))]
    return stages


def _usual_stages(asked: Assignment, survey: str) -> list[Stage]:
    stages = []
    for subject, source in {**asked.encoders, LOG_MEL: survey}.items():
        features = _features_stage(asked, subject, source)
        stages += [features, _evaluate_stage(asked, subject, features=features.name)]
    return stages


def _features_stage(asked: Assignment, subject: str, source: str) -> Stage:
    return Stage(
        name=f"features/{asked.corpus_display_name}/{subject}",
        kind="features",
        action="ossicle.tasks.evaluation.features:extract",
        settings={"corpus": asked.corpus, "crop_seconds": asked.experiment.pretrain.crop_seconds},
        inputs={"source": source, "survey": asked.survey},
        labels={"corpus": asked.corpus_display_name, "subject": subject},
    )


def _evaluate_stage(asked: Assignment, subject: str, *, features: str) -> Stage:
    return Stage(
        name=f"{asked.title}/{asked.corpus_display_name}/{subject}",
        kind="evaluate",
        action="ossicle.tasks.evaluation.results:evaluate",
        settings={"task": asked.task, "corpus": asked.corpus},
        inputs={"features": features},
        seed=asked.experiment.seed,
        revision=3,
        labels={"task": asked.title, "corpus": asked.corpus_display_name, "subject": subject},
    )


def fine_tuned_evaluation_stage(asked: Assignment, subject: str) -> Stage:
    """Fine-tune an encoder on a corpus's training clips and judge it on the test clips, fold by fold if it has folds.

    Args:
        subject: one of `asked.encoders`
    """
    return Stage(
        name=f"{asked.title}/{asked.corpus_display_name}/{subject}",
        kind="evaluate",
        action="ossicle.tasks.stages.fine_tune:evaluate",
        settings={"task": asked.task, "corpus": asked.corpus},
        inputs={"encoder": asked.encoders[subject], "survey": asked.survey},
        seed=asked.experiment.seed,
        labels={"task": asked.title, "corpus": asked.corpus_display_name, "subject": subject},
        objective="ossicle.tasks.stages.fine_tune:objective_of",
    )


def fine_tune_stage(
    name: str, settings: FineTuningConfig, corpus: PartChoice, *, survey: str, encoder: str, seed: int
) -> Stage:
    """Fine-tune an encoder on a corpus's labels, to classify or to teach; the artifact holds encoder and head.

    The clips of `train` teach, or those of all folds where the corpus has folds and no `test` split.

    Args:
        survey: the stage that looked `corpus` over
        encoder: the stage whose encoder is fine-tuned
    """
    return Stage(
        name=name,
        kind="fine_tune",
        action="ossicle.tasks.stages.fine_tune:fine_tune",
        settings={"training": settings, "corpus": corpus},
        inputs={"encoder": encoder, "survey": survey},
        seed=seed,
        objective="ossicle.tasks.stages.fine_tune:objective_of",
    )
