"""What an encoder is judged on: the `Task` interface, and what goes in and comes out of it.

Importable without torch and numpy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .config import Config, CorpusChoice

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .corpus import Manifest


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
    """One figure on the test clips.

    Attributes:
        view: which pooling it was made from
        metric: `accuracy` or `mAP`
        value: the figure, in [0, 1]
        low, high: 95 % bootstrap interval over clips
        clips: number of test clips
        chosen: what was chosen on the validation split, and the validation score
    """

    view: str
    metric: str
    value: float
    low: float
    high: float
    clips: int
    chosen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskResult:
    """Scores, and the per-clip predictions that they come from.

    Attributes:
        scores: one per view
        clips: (test clips,) row numbers in `Features.clips`
        truth: (test clips, classes) bool
        predictions: view to (test clips, classes) float32 scores, higher is likelier
    """

    scores: list[Score]
    clips: npt.NDArray[np.int64]
    truth: npt.NDArray[np.bool_]
    predictions: Mapping[str, npt.NDArray[np.float32]]


class TaskConfig(Config):
    """Base of a task's configuration."""

    corpus: CorpusChoice | None = None
    """The labelled corpus to judge on; the experiment's own when left out."""

    def corpus_problems(self, manifest: Manifest) -> list[str]:
        """Say what the corpus lacks for this task; labels and all three splits are needed unless a task says else."""
        if not manifest.label_names:
            return ["the corpus has no labels to judge by"]
        return [
            f"the corpus has no labelled clip in its split `{split}`"
            for split in ("train", "valid", "test")
            if not any(manifest.labels[row] for row in manifest.rows_in(split))
        ]


class Task(ABC):
    """Judges frozen features of a labelled corpus. The first constructor argument is its typed configuration.

    Whatever a task chooses (a penalty, a number of neighbours) it chooses on the validation split; the test split is
    used once, for the score.
    """

    @abstractmethod
    def evaluate(self, features: Features, *, seed: int) -> TaskResult:
        """Score every view of the features on the test split.

        Raises:
            CorpusError: if a split that is needed is empty or the clips carry no labels
        """
