"""Probes: a linear model and nearest neighbours on frozen features.

Notable choices:

- Settings are chosen on the validation split by the metric of the corpus. Among equals the smoother model wins.
- The scored model is fitted only on the training split. It is not fitted again with the validation clips.
- `fit` never receives a test clip.
- Views are standardised for the linear model, and unchanged for the nearest neighbours.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar, TypeVar, final

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import KNeighborsClassifier

from ...core.errors import ArtifactError
from ...core.task import Features, Scale, Task, TaskResult
from .logistic import logistic_path
from .metrics import figure, metric_name
from .probe_config import KnnProbeConfig, LinearProbeConfig
from .protocols import LabelledRows, LabelledSplits, protocols
from .results import Outcome, task_result

Predictor = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.floating]]
_P = TypeVar("_P", bound=Predictor)


@dataclass(frozen=True)
class Examples:
    """Labelled features of one split.

    Attributes:
        features: (clips, D) float32
        truth: (clips, classes) bool
    """

    features: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Fitted:
    """A fitted probe.

    Attributes:
        predict: (clips, D) to (clips, classes) scores, higher is likelier
        chosen: the settings chosen on the validation split, and the validation score
    """

    predict: Predictor
    chosen: Mapping[str, Any]


class Probe(Task):
    """A model that is fitted to each view of frozen features and scored on the test clips, once per fold if any.

    Attributes:
        scale: the scale of the predictions
    """

    scale: ClassVar[Scale]

    @abstractmethod
    def fit(self, train: Examples, valid: Examples, *, multi_label: bool) -> Fitted:
        """Fit on the training clips, and choose the settings on the validation clips."""

    @final
    def evaluate(self, features: Features, *, seed: int) -> TaskResult:
        """Fit and score every view. Only the bootstrap uses `seed`.

        Raises:
            CorpusError: if a required split is empty, its clips have no labels, or a class cannot be learnt
            ArtifactError: if a view does not hold one row of finite numbers per clip
        """
        given = protocols(features.clips)
        outcomes = {}
        for view, values in features.views.items():
            _check_view(view, values, len(features.clips))
            outcomes[view] = [self._outcome(values, splits) for splits in given]
        return task_result(given, outcomes, scale=self.scale, seed=seed)

    def _outcome(self, values: npt.NDArray[np.float32], splits: LabelledSplits) -> Outcome:
        train, valid = (_examples(values, rows) for rows in (splits.train, splits.valid))
        fitted = self.fit(train, valid, multi_label=splits.multi_label)
        return Outcome(fitted.predict(values[splits.test.rows]).astype(np.float32), fitted.chosen)


class LinearProbe(Probe):
    """Logistic regression on standardised features: multinomial, or one per class if clips can have several labels.

    The scores are logits. `chosen` contains the `strength`, whether its fit `converged`, and `unconverged_fits`, the
    number of regressions over all strengths that reached the limit of iterations.
    """

    scale = "logits"

    def __init__(self, config: LinearProbeConfig) -> None:
        self.config = config

    def fit(self, train: Examples, valid: Examples, *, multi_label: bool) -> Fitted:
        path = list(
            logistic_path(
                train.features,
                train.truth,
                self.config.strengths,
                multi_label=multi_label,
                max_iterations=self.config.max_iterations,
            )
        )
        best, value = _best(path, valid, multi_label=multi_label)
        chosen = {
            "strength": best.strength,
            f"valid_{metric_name(multi_label=multi_label)}": value,
            "converged": best.unconverged == 0,
            "unconverged_fits": sum(fit.unconverged for fit in path),
        }
        return Fitted(best, chosen)


class KnnProbe(Probe):
    """Votes of the nearest training clips, each weighted by the inverse of its distance (Dudani, 1976).

    The score of a class is its share of the votes. A clip at distance 0 outvotes all others. `chosen` contains the
    number of `neighbours`.
    """

    scale = "probabilities"

    def __init__(self, config: KnnProbeConfig) -> None:
        self.config = config

    def fit(self, train: Examples, valid: Examples, *, multi_label: bool) -> Fitted:
        clips = len(train.features)
        numbers = {number for number in self.config.neighbours if number <= clips} or {clips}
        candidates = [
            _Neighbours(train, number, self.config.metric, multi_label=multi_label)
            for number in sorted(numbers, reverse=True)
        ]
        best, value = _best(candidates, valid, multi_label=multi_label)
        chosen = {"neighbours": best.number, f"valid_{metric_name(multi_label=multi_label)}": value}
        return Fitted(best, chosen)


class _Neighbours:
    """A classifier by the votes of `number` neighbours."""

    def __init__(self, train: Examples, number: int, metric: str, *, multi_label: bool) -> None:
        self.number = number
        self.multi_label = multi_label
        self.model = KNeighborsClassifier(number, weights="distance", metric=metric, algorithm="brute")
        self.model.fit(train.features, train.truth if multi_label else train.truth.argmax(axis=1))

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
        """Compute the shares of the votes: (clips, D) to (clips, classes)."""
        shares = self.model.predict_proba(features)
        return np.stack([share[:, 1] for share in shares], axis=1) if self.multi_label else np.asarray(shares)


def _best(candidates: Iterable[_P], valid: Examples, *, multi_label: bool) -> tuple[_P, float]:
    """Return the candidate with the best figure on the validation clips, and that figure. The first of equals wins."""
    scored = (
        (candidate, figure(valid.truth, candidate(valid.features), multi_label=multi_label)) for candidate in candidates
    )
    return max(scored, key=itemgetter(1))


def _examples(values: npt.NDArray[np.float32], split: LabelledRows) -> Examples:
    return Examples(values[split.rows], split.truth)


def _check_view(view: str, values: npt.NDArray[np.float32], clips: int) -> None:
    if values.ndim != 2 or len(values) != clips:
        raise ArtifactError(f"view `{view}` must have shape ({clips}, D), one row per clip, but has {values.shape}")
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        raise ArtifactError(
            f"view `{view}` must be finite, but {broken} of {clips} clips contain NaN or infinity; "
            "the encoder has probably diverged"
        )
