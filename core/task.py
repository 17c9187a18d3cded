"""What an encoder is judged on: the `Task` interface, and what goes in and comes out of it.

Importable without torch and numpy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .choices import CorpusChoice
from .config import Config

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .choices import PartChoice
    from .corpus import Manifest
    from .experiment import Experiment
    from .stages import Stage

Scale = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Features:
    """Frozen embeddings of a labelled corpus.

    Attributes:
        clips: the manifest rows that were embedded, in the order of the rows of each view
        views: pooling name to (clips, D) float32; every view is scored on its own
    """

    clips: Manifest
    views: Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Score:
    """One figure on the test clips; under cross-validation those of every fold, pooled.

    Attributes:
        view: which pooling it was made from
        metric: what views and encoders are compared by: `accuracy` or `mAP`
        value: the figure, in [0, 1]
        low, high: 95 % bootstrap interval over clips
        clips: number of test clips
        chosen: what was chosen on the validation split, and the validation score
        others: further metrics of the same clips, without intervals: `UAR`, or `mAUC` and `d_prime`
        folds: the figure of each test fold alone; empty without cross-validation
    """

    view: str
    metric: str
    value: float
    low: float
    high: float
    clips: int
    chosen: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    folds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskResult:
    """Scores, and the per-clip predictions that they come from.

    Attributes:
        scores: one per view
        clips: (test clips,) row numbers in `Features.clips`; none twice
        truth: (test clips, classes) bool
        predictions: view to (test clips, classes) float32 scores, higher is likelier
        scale: what the predictions are, so that they can be averaged over runs; None if they are neither
        folds: (test clips,) int64, the fold that each clip was tested in; None without cross-validation
    """

    scores: list[Score]
    clips: npt.NDArray[np.int64]
    truth: npt.NDArray[np.bool_]
    predictions: Mapping[str, npt.NDArray[np.float32]]
    scale: Scale | None = None
    folds: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Assignment:
    """What one task of an experiment is to judge.

    Attributes:
        task: the task and its configuration
        title: what people call it, unique for its corpus
        corpus: the labelled corpus
        survey: the stage that looked that corpus over
        encoders: what people call each encoder to the name of the stage that makes it
    """

    experiment: Experiment
    task: PartChoice
    title: str
    corpus: PartChoice
    survey: str
    encoders: Mapping[str, str]

    @cached_property
    def corpus_display_name(self) -> str:
        """What people call the corpus, unique in the experiment."""
        return self.experiment.corpus_display_name(self.corpus)


class TaskConfig(Config):
    """Base of a task's configuration.

    Attributes:
        needs_labelled_splits: whether its corpus must have labels in three splits, or in three folds or more
    """

    needs_labelled_splits: ClassVar[bool] = True

    corpus: CorpusChoice | None = None
    """The labelled corpus to judge on; the experiment's own when left out."""

    def title(self, name: str) -> str:
        """What people call the task, from its name in the catalog: that name by default."""
        return name

    def stages(self, asked: Assignment) -> list[Stage] | None:
        """The stages that judge, where the task is more than a `Task` on frozen features; None by default.

        Stages of kind `evaluate` that end in `tasks.evaluation.results.save_result` are reported like those of any
        task.
        """
        return None


def lists_own_stages(config: type[Config]) -> bool:
    """Whether a task with this configuration replaces the evaluation of frozen features with its own stages."""
    return issubclass(config, TaskConfig) and config.stages is not TaskConfig.stages


class Task(ABC):
    """Judges frozen features of a labelled corpus. The first constructor argument is its typed configuration.

    Whatever a task chooses (a penalty, a number of neighbours) it chooses on the validation split; the test split is
    used once, for the score. A corpus with folds and no test split is cross-validated, one model a fold.
    """

    @abstractmethod
    def evaluate(self, features: Features, *, seed: int) -> TaskResult:
        """Score every view of the features on the test split, or on each fold in turn.

        Raises:
            CorpusError: if a split that is needed is empty or the clips carry no labels
        """
