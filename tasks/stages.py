"""The stages that learn and that judge; importable without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..audio.stages import survey_stage
from ..core.config import PartChoice
from ..core.stages import Stage

if TYPE_CHECKING:
    from ..core.experiment import Experiment, PretrainConfig
    from .training_settings import TokenizerTrainingConfig

UNTRAINED = "untrained"
LOG_MEL = "log-mel"


def untrained_stage(experiment: Experiment, *, survey: str) -> Stage:
    """The encoder as its seed draws it: the baseline that pre-training must beat."""
    return Stage(
        name=UNTRAINED,
        kind="encoder",
        action="ossicle.tasks.pretraining:initialise",
        settings={"encoder": experiment.encoder},
        inputs={"survey": survey},
        seed=experiment.seed,
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
        action="ossicle.tasks.tokenizing:prepare",
        settings=settings,
        inputs={"survey": survey} if teacher is None else {"survey": survey, "teacher": teacher},
        seed=seed,
    )


def pretrain_stage(
    name: str, experiment: Experiment, *, survey: str, tokenizer: str, seed: int, training: PretrainConfig
) -> Stage:
    """Pre-train the experiment's encoder on the labels of a tokenizer."""
    return Stage(
        name=name,
        kind="pretrain",
        action="ossicle.tasks.pretraining:pretrain",
        settings={"encoder": experiment.encoder, "corpus": experiment.corpus, "training": training},
        inputs={"survey": survey, "tokenizer": tokenizer},
        seed=seed,
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
        seen[task.name, corpus.label] += 1
        repeat = seen[task.name, corpus.label]
        title = task.name if repeat == 1 else f"{task.name} {repeat}"
        task_survey = survey_stage(experiment, corpus)
        stages.append(task_survey)
        for subject, source in {**encoders, LOG_MEL: survey}.items():
            features = _features_stage(experiment, corpus, subject, source, survey=task_survey.name)
            stages += [features, _evaluate_stage(experiment, task, title, corpus, subject, features=features.name)]
    return stages


def _features_stage(experiment: Experiment, corpus: PartChoice, subject: str, source: str, *, survey: str) -> Stage:
    return Stage(
        name=f"features/{corpus.label}/{subject}",
        kind="features",
        action="ossicle.tasks.features:extract",
        settings={"corpus": corpus, "crop_seconds": experiment.pretrain.crop_seconds},
        inputs={"source": source, "survey": survey},
        labels={"corpus": corpus.label, "subject": subject},
    )


def _evaluate_stage(
    experiment: Experiment, task: PartChoice, title: str, corpus: PartChoice, subject: str, *, features: str
) -> Stage:
    return Stage(
        name=f"{title}/{corpus.label}/{subject}",
        kind="evaluate",
        action="ossicle.tasks.evaluation:evaluate",
        settings={"task": task, "corpus": corpus},
        inputs={"features": features},
        seed=experiment.seed,
        revision=2,
        labels={"task": title, "corpus": corpus.label, "subject": subject},
    )
