"""The stages that evaluate encoders by tasks; importable without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...audio.stage_specs import survey_stage
from ...core.choices import PartChoice
from ...core.stages import CorpusStage, Stage
from ...core.task import Assignment, TaskConfig

if TYPE_CHECKING:
    from ...core.experiment import Experiment

LOG_MEL = "log-mel"


@dataclass(frozen=True, kw_only=True)
class FeaturesStage(CorpusStage):
    """Embed a labelled corpus with a frozen encoder, or with log-mel statistics.

    Attributes:
        crop_seconds: of longer clips only the first so many seconds are used
    """

    kind = "features"
    action = "ossicle.tasks.evaluation.features:extract"

    crop_seconds: float


@dataclass(frozen=True, kw_only=True)
class EvaluateStage(CorpusStage):
    """Score frozen features by a task.

    Attributes:
        task: a part that is an `ossicle.Task`
    """

    kind = "evaluate"
    action = "ossicle.tasks.evaluation.results:evaluate"
    is_evaluation = True

    task: PartChoice


def evaluation_stages(experiment: Experiment, encoders: Mapping[str, str], *, survey: str) -> list[Stage]:
    """Evaluate encoders, and the log-mel baseline with them, by every task of the experiment.

    Args:
        encoders: what people call each encoder to the name of the stage that makes it
        survey: the stage whose front end the log-mel baseline uses
    """
    stages: list[Stage] = []
    seen: Counter[tuple[str, str]] = Counter()
    for task in experiment.evaluate:
        corpus = getattr(task.config, "corpus", None) or experiment.corpus
        title = task.config.title(task.name) if isinstance(task.config, TaskConfig) else task.name
        label = experiment.corpus_display_name(corpus)
        seen[title, label] += 1
        repeat = seen[title, label]
        title = title if repeat == 1 else f"{title} {repeat}"
        task_survey = survey_stage(experiment, corpus)
        asked = Assignment(experiment, task, title, corpus, task_survey.name, encoders)
        own = task.config.stages(asked) if isinstance(task.config, TaskConfig) else None
        stages += [task_survey, *(own if own is not None else _usual_stages(asked, survey))]
    return stages


def _usual_stages(asked: Assignment, survey: str) -> list[Stage]:
    stages: list[Stage] = []
    for subject, source in {**asked.encoders, LOG_MEL: survey}.items():
        features = _features_stage(asked, subject, source)
        stages += [features, _evaluate_stage(asked, subject, features=features.name)]
    return stages


def _features_stage(asked: Assignment, subject: str, source: str) -> FeaturesStage:
    return FeaturesStage(
        name=f"features/{asked.corpus_display_name}/{subject}",
        corpus=asked.corpus,
        crop_seconds=asked.experiment.pretrain.crop_seconds,
        inputs={"source": source, "survey": asked.survey},
        tags={"corpus": asked.corpus_display_name, "subject": subject},
    )


def _evaluate_stage(asked: Assignment, subject: str, *, features: str) -> EvaluateStage:
    return EvaluateStage(
        name=f"{asked.title}/{asked.corpus_display_name}/{subject}",
        corpus=asked.corpus,
        task=asked.task,
        inputs={"features": features},
        seed=asked.experiment.seed,
        tags={"task": asked.title, "corpus": asked.corpus_display_name, "subject": subject},
    )
