"""The `Task` interface, which evaluates an encoder, with its inputs and results.

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
    from .experiment import Experiment
    from .manifest import Manifest
    from .stages import Stage

Scale = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Features:
    """Frozen embeddings of a labelled corpus.

    Attributes:
        clips: the manifest rows that were embedded, in the order of the rows of each view
        views: pooling name to (clips, D) float32; every view is scored separately
    """

    clips: Manifest
    views: Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Score:
    """The score of one view on the test clips. With cross-validation, these are the clips of all folds.

    Attributes:
        view: name of the pooling
        metric: the metric by which views and encoders are compared: `accuracy` or `mAP`
        value: value of the metric, in [0, 1]
        low, high: 95 % bootstrap interval over clips
        clips: number of test clips
        chosen: the settings that were chosen on the validation split, and the validation score
        others: further metrics of the same clips, without intervals: `UAR`, or `mAUC` and `d_prime`
        folds: value of the metric in each test fold; empty without cross-validation
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
        clips: (test clips,) row numbers in `Features.clips`, without duplicates
        truth: (test clips, classes) bool
        predictions: view to (test clips, classes) float32 scores; higher is more likely
        scale: the scale of the predictions, so that they can be averaged over runs; None if they are neither logits nor
            probabilities
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
    """The encoders and the corpus that one task of an experiment evaluates.

    Attributes:
        task: the task and its configuration
        title: display name of the task, unique for its corpus
        corpus: the labelled corpus
        survey: name of the stage that surveys the corpus
        encoders: display name of each encoder to the name of the stage that makes it
    """

    experiment: Experiment
    task: PartChoice
    title: str
    corpus: PartChoice
    survey: str
    encoders: Mapping[str, str]

    @cached_property
    def corpus_display_name(self) -> str:
        """The display name of the corpus, unique in the experiment."""
        return self.experiment.corpus_display_name(self.corpus)


class TaskConfig(Config):
    """Base of a task's configuration.

    Attributes:
        needs_labelled_splits: whether its corpus must have labels in three splits, or in three folds or more
    """

    needs_labelled_splits: ClassVar[bool] = True

    corpus: CorpusChoice | None = None
    """The labelled corpus to evaluate on. By default the corpus of the experiment."""

    def title(self, name: str) -> str:
        """Return the display name of the task. By default this is its name in the catalog, `name`."""
        return name

    def stages(self, asked: Assignment) -> list[Stage] | None:
        """List the stages of a task that does more than evaluate frozen features. None by default.

        Stages of kind `evaluate` whose action ends with `tasks.evaluation.results.save_result` are reported like those
        of any other task.
        """
        return None


def lists_own_stages(config: type[Config]) -> bool:
    """Return whether a task with this configuration replaces the evaluation of frozen features by its own stages."""
    return issubclass(config, TaskConfig) and config.stages is not TaskConfig.stages


class Task(ABC):
    """Evaluates frozen features of a labelled corpus. The first constructor argument is its typed configuration.

    A task chooses its settings (a penalty, a number of neighbours) on the validation split, and uses the test split
    once, for the score. A corpus with folds and without a test split is cross-validated, with one model for each fold.
    """

    @abstractmethod
    def evaluate(self, features: Features, *, seed: int) -> TaskResult:
        """Score every view of the features on the test split, or on each fold in turn.

        Raises:
            CorpusError: if a required split is empty or the clips have no labels
        """
