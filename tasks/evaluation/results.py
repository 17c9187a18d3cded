"""Evaluate frozen features with a task. The action of `EvaluateStage`, and the format of results that stages share.

Notable choices:

- Under cross-validation the predictions of all folds are pooled before they are scored, so that the bootstrap covers
  all clips.
- The validation score is then the mean over folds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.build import build
from ...core.stage_runner import StageRun
from ...core.stages import Stage
from ...core.task import Features, Scale, Score, Task, TaskResult
from .bootstrap import accuracy_of_draws, bootstrap_interval, mean_average_precision_of_draws
from .metrics import Scores, Truth, accuracy, figure, mean_average_precision, metric_name, other_figures
from .protocols import NO_FOLD, LabelledSplits
from .stage_specs import EvaluateStage


def evaluate(run: StageRun[EvaluateStage]) -> None:
    """Fit and score a task. Write `scores.json`, and the predictions for each clip to `predictions.npz`."""
    task = build(run.stage.task, Task, seed=run.stage.seed)
    with np.load(run.inputs["features"].file("features.npz"), allow_pickle=False) as file:
        views = dict(file)
    rows = views.pop("rows")
    manifest = run.manifest().take(rows)
    result = task.evaluate(Features(manifest, views), seed=run.stage.seed)
    save_result(run, result, rows, multi_label=manifest.multi_label)


def save_result(run: StageRun[Stage], result: TaskResult, rows: npt.NDArray[np.int64], *, multi_label: bool) -> None:
    """Write a task's result as the artifact of an evaluation stage, which reports and ensembles read.

    Args:
        rows: (clips,) the manifest rows to which the clip numbers of the result refer
    """
    scores = {
        **run.stage.tags,
        "multi_label": multi_label,
        "scale": result.scale,
        "scores": [asdict(score) for score in result.scores],
    }
    (run.folder / "scores.json").write_text(json.dumps(scores, indent=2))
    arrays: dict[str, npt.NDArray[Any]] = {
        f"scores/{view}": predictions for view, predictions in result.predictions.items()
    }
    arrays |= {"clips": rows[result.clips], "truth": result.truth}
    if result.folds is not None:
        arrays["folds"] = result.folds
    np.savez_compressed(run.folder / "predictions.npz", allow_pickle=False, **arrays)
    for score in result.scores:
        run.metrics |= {f"{score.view}/{score.metric}": score.value}
        run.metrics |= {f"{score.view}/{name}": value for name, value in score.others.items()}


@dataclass(frozen=True)
class Outcome:
    """The predictions of one model for the test clips of its protocol.

    Attributes:
        predictions: (test clips, classes) float32, higher is likelier
        chosen: the settings chosen on the validation clips, and the validation score as `valid_` and the metric's name
    """

    predictions: npt.NDArray[np.float32]
    chosen: Mapping[str, Any]


def task_result(
    given: Sequence[LabelledSplits], outcomes: Mapping[str, Sequence[Outcome]], *, scale: Scale, seed: int
) -> TaskResult:
    """Pool the predictions of the models of all protocols, and score them.

    Args:
        given: the result of `protocols` for the corpus
        outcomes: maps a view to the outcome of each protocol, in the same order
        scale: the scale of the predictions
        seed: seed of the bootstrap
    """
    rows, truth = (np.concatenate([getattr(splits.test, column) for splits in given]) for column in ("rows", "truth"))
    multi_label = given[0].multi_label
    folds = None
    if given[0].fold != NO_FOLD:
        folds = np.repeat(np.array([splits.fold for splits in given]), [len(splits.test.rows) for splits in given])
    predictions = {view: np.concatenate([outcome.predictions for outcome in found]) for view, found in outcomes.items()}
    scores = [
        score_view(
            view,
            truth,
            predictions[view],
            multi_label=multi_label,
            seed=seed,
            chosen=_choices([outcome.chosen for outcome in found]),
            folds=folds,
        )
        for view, found in outcomes.items()
    ]
    return TaskResult(scores, rows, truth, predictions, scale, folds)


def _choices(chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the choices of all folds: the mean of validation scores, and a list of other values if they differ."""

    def together(name: str, values: list[Any]) -> Any:
        if name.startswith("valid_"):
            return fmean(values)
        return values if any(value != values[0] for value in values) else values[0]

    return {name: together(name, [one[name] for one in chosen]) for name in chosen[0]}


def score_view(
    view: str,
    truth: Truth,
    scores: Scores,
    *,
    multi_label: bool,
    seed: int,
    chosen: Mapping[str, Any],
    folds: npt.NDArray[np.int64] | None = None,
) -> Score:
    """Score one view on the test clips, with its 95 % interval.

    Args:
        truth: (clips, classes) bool
        scores: (clips, classes), higher is likelier
        chosen: the settings chosen on the validation split; for mAP, `classes_left_out` is added
        folds: (clips,) the fold that each clip was tested in, for a separate figure of each fold
    """
    if multi_label:
        value, left_out = mean_average_precision(truth, scores)
        statistic = mean_average_precision_of_draws(truth, scores)
        chosen = {**chosen, "classes_left_out": left_out}
    else:
        value = accuracy(truth, scores)
        statistic = accuracy_of_draws(truth, scores)
    low, high = bootstrap_interval(statistic, len(truth), seed=seed)
    return Score(
        view,
        metric_name(multi_label=multi_label),
        value,
        low,
        high,
        len(truth),
        dict(chosen),
        others=other_figures(truth, scores, multi_label=multi_label),
        folds=_of_folds(truth, scores, folds, multi_label=multi_label),
    )


def _of_folds(
    truth: Truth, scores: Scores, folds: npt.NDArray[np.int64] | None, *, multi_label: bool
) -> dict[str, float]:
    if folds is None:
        return {}
    return {
        str(fold): figure(truth[folds == fold], scores[folds == fold], multi_label=multi_label)
        for fold in np.unique(folds)
    }
