"""A plugin for tests: a schedule that trains nothing, whose stages note who makes them and take their time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np

import ossicle
from ossicle.core.experiment import Experiment
from ossicle.core.stage_runner import StageRun

CLIPS = 40


class CountingConfig(ossicle.Config):
    """Stages that are quick or slow, and fail where they are told to."""

    diary: Path
    """The file that every stage appends its name, its seed and its process to."""
    label: str = "plain"
    """What makes the stages of a variant its own."""
    right: float = 0.5
    """Share of the test clips that are found."""
    seconds: float = 0.0
    """How long the stage `own` takes."""
    fails: bool = False
    """Whether that stage fails."""


@ossicle.schedule("counting")
class Counting(ossicle.Schedule):
    """A stage that all variants share, one of their own, and a score."""

    def __init__(self, config: CountingConfig) -> None:
        self.config = config

    def stages(self, experiment: Experiment) -> list[ossicle.Stage]:
        own = {"config": self.config}
        said = {"task": "probe", "corpus": "tones", "subject": "encoder"}
        shared = {"diary": str(self.config.diary)}
        action, judge = f"{__name__}:act", f"{__name__}:judge"
        return [
            ossicle.Stage("shared", "number", action, settings=shared, seed=experiment.seed),
            ossicle.Stage("own", "number", action, settings=own, inputs={"source": "shared"}, seed=experiment.seed),
            ossicle.Stage("probe", "evaluate", judge, own, {"source": "own"}, experiment.seed, labels=said),
        ]


def act(run: StageRun) -> None:
    """Note who makes the stage, take time, and fail if told to."""
    config = run.stage.settings.get("config")
    with open(config.diary if config else run.stage.settings["diary"], "a") as diary:
        diary.write(f"{run.stage.name} {run.stage.seed} {os.getpid()}\n")
    if config:
        time.sleep(config.seconds)
        if config.fails:
            raise ValueError("no luck")


def judge(run: StageRun) -> None:
    """Leave what a probe leaves."""
    config = run.stage.settings["config"]
    draw = np.random.default_rng([run.stage.seed, round(100 * config.right)])
    truth = np.eye(2, dtype=bool)[np.arange(CLIPS) % 2]
    right = draw.random(CLIPS) < config.right
    scores = np.where(right[:, None], truth, ~truth).astype(np.float32)
    value = float(right.mean())
    score = {"view": "mean", "metric": "accuracy", "value": value, "low": value - 0.1, "high": value + 0.1}
    score |= {"clips": CLIPS, "chosen": {"valid_accuracy": value}, "others": {"UAR": value}, "folds": {}}
    said = {**run.stage.labels, "multi_label": False, "scale": "probabilities", "scores": [score]}
    (run.folder / "scores.json").write_text(json.dumps(said))
    np.savez(run.folder / "predictions.npz", **{"scores/mean": scores, "clips": np.arange(CLIPS), "truth": truth})
