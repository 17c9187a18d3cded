"""The stages that evaluate encoders with tasks. Importable without torch."""

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
        crop_seconds: length to which longer clips are cut, from their start
    """

    kind = "features"
    action = "ossicle.tasks.evaluation.features:extract"

    crop_seconds: float


@dataclass(frozen=True, kw_only=True)
class EvaluateStage(CorpusStage):
    """Score frozen features with a task.

    Attributes:
        task: a part that is an `ossicle.Task`
    """

    kind = "evaluate"
    action = "ossicle.tasks.evaluation.results:evaluate"
    is_evaluation = True

    task: PartChoice


def evaluation_stages(experiment: Experiment, encoders: Mapping[str, str], *, survey: str) -> list[Stage]:
    """Create the stages that evaluate encoders and the log-mel baseline with every task of the experiment.

    Args:
        encoders: maps the display name of each encoder to the name of the stage that makes it
        survey: name of the stage whose front end the log-mel baseline uses
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
        assignment = Assignment(experiment, task, title, corpus, task_survey.name, encoders)
        own = task.config.stages(assignment) if isinstance(task.config, TaskConfig) else None
        stages += [task_survey, *(own if own is not None else _default_stages(assignment, survey))]
    return stages


def _default_stages(assignment: Assignment, survey: str) -> list[Stage]:
    stages: list[Stage] = []
    for subject, source in {**assignment.encoders, LOG_MEL: survey}.items():
        features = _features_stage(assignment, subject, source)
        stages += [features, _evaluate_stage(assignment, subject, features=features.name)]
    return stages


def _features_stage(assignment: Assignment, subject: str, source: str) -> FeaturesStage:
    return FeaturesStage(
        name=f"features/{assignment.corpus_display_name}/{subject}",
        corpus=assignment.corpus,
        crop_seconds=assignment.experiment.pretrain.crop_seconds,
        inputs={"source": source, "survey": assignment.survey},
        tags={"corpus": assignment.corpus_display_name, "subject": subject},
    )


def _evaluate_stage(assignment: Assignment, subject: str, *, features: str) -> EvaluateStage:
    return EvaluateStage(
        name=f"{assignment.title}/{assignment.corpus_display_name}/{subject}",
        corpus=assignment.corpus,
        task=assignment.task,
        inputs={"features": features},
        seed=assignment.experiment.seed,
        tags={"task": assignment.title, "corpus": assignment.corpus_display_name, "subject": subject},
    )
