"""Judge frozen features by a task: the action of the evaluation stages."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import PluginError
from ..core.evaluation import Features, Task
from ..core.running import StageRun


def evaluate(run: StageRun) -> None:
    """Write `scores.json`, and `predictions.npz` with the per-clip predictions behind them."""
    choice = run.stage.settings["task"]
    task = choice.part.load()(choice.config)
    if not isinstance(task, Task):
        raise PluginError(f"task `{choice.name}` of {choice.part.origin.describe()} must be an ossicle.Task")
    with np.load(run.inputs["features"].path / "features.npz", allow_pickle=False) as file:
        views = dict(file)
    rows = views.pop("rows")
    result = task.evaluate(Features(run.manifest().take(rows), views), seed=run.stage.seed)
    scores = {**run.stage.labels, "scores": [asdict(score) for score in result.scores]}
    (run.folder / "scores.json").write_text(json.dumps(scores, indent=2))
    arrays: dict[str, npt.NDArray[Any]] = {
        f"scores/{view}": predictions for view, predictions in result.predictions.items()
    }
    arrays |= {"clips": rows[result.clips], "truth": result.truth}
    np.savez_compressed(run.folder / "predictions.npz", allow_pickle=False, **arrays)
    run.metrics |= {f"{score.view}/{score.metric}": score.value for score in result.scores}
