"""The difference between two encoders on the same test clips.

Notable choices:

- Both encoders are scored on the same draws of clips (paired bootstrap; Efron and Tibshirani, 1993, chapter 8). A hard
  clip is hard for most encoders, so two intervals that overlap can hide a significant difference.
- The interval is the percentile interval. Its rate of false alarms stays at 5 % even if the two encoders differ on few
  clips.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import ArtifactError
from ..core.store import Artifact
from .record import PREDICTIONS, ProbeScore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..tasks.evaluation.bootstrap import Statistic


@dataclass(frozen=True)
class Difference:
    """One score minus another, in shares, with the 95 % interval over clips."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Predictions:
    """The predictions behind a score.

    Attributes:
        clips: rows of the corpus's manifest
        truth: (clips, classes)
        scores: (clips, classes)
    """

    clips: npt.NDArray[np.int64]
    truth: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float32]
    multi_label: bool

    def statistic(self) -> Statistic:
        """Return the metric of the corpus as a function of the clips that `bootstrap_interval` draws."""
        from ..tasks.evaluation.bootstrap import accuracy_of_draws, mean_average_precision_of_draws

        of_draws = mean_average_precision_of_draws if self.multi_label else accuracy_of_draws
        return of_draws(self.truth, self.scores)


def difference(ours: ProbeScore, theirs: ProbeScore) -> Difference | None:
    """Compare two scores clip by clip; None if their predictions cannot be paired."""
    from ..tasks.evaluation.bootstrap import bootstrap_interval
    from ..tasks.evaluation.metrics import metric_name

    one, other = read_predictions(ours), read_predictions(theirs)
    if one is None or other is None or not same_clips(one, other):
        return None
    if len(one.clips) < 2 or ours.metric != metric_name(multi_label=one.multi_label):
        return None
    first, second = one.statistic(), other.statistic()
    low, high = bootstrap_interval(lambda rows: first(rows) - second(rows), len(one.clips), seed=0, corrected=False)
    return Difference(ours.value - theirs.value, low, high)


def read_predictions(score: ProbeScore) -> Predictions | None:
    """Read the predictions behind a score; None if they are missing or damaged."""
    import numpy as np

    if score.stage is None:
        return None
    artifact = Artifact(score.stage.folder)
    try:
        about = artifact.read_json("scores.json")
        with artifact.file(PREDICTIONS).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return Predictions(file["clips"], file["truth"], file[f"scores/{score.view}"], about["multi_label"])
    except (ArtifactError, OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def same_clips(one: Predictions, other: Predictions) -> bool:
    """Whether two scores come from the same clips with the same truth."""
    import numpy as np

    same = np.array_equal(one.clips, other.clips) and np.array_equal(one.truth, other.truth)
    return same and one.multi_label == other.multi_label
