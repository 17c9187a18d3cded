"""A plugin for tests: a schedule that trains nothing, whose stages note who makes them and take their time."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
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


@ossicle.stage
@dataclass(frozen=True, kw_only=True)
class Shared(ossicle.Stage):
    """A stage that all variants share."""

    kind = "shared"
    action = f"{__name__}:act"

    diary: str


@ossicle.stage
@dataclass(frozen=True, kw_only=True)
class Own(ossicle.Stage):
    """A stage of a variant's own."""

    kind = "own"
    action = f"{__name__}:act_slowly"

    config: CountingConfig


@ossicle.stage
@dataclass(frozen=True, kw_only=True)
class Probe(ossicle.Stage):
    """A score."""

    kind = "probe"
    action = f"{__name__}:judge"
    is_evaluation = True

    config: CountingConfig


@ossicle.schedule("counting")
class Counting(ossicle.Schedule):
    """A stage that all variants share, one of their own, and a score."""

    def __init__(self, config: CountingConfig) -> None:
        self.config = config

    def stages(self, experiment: Experiment) -> list[ossicle.Stage]:
        seed, config = experiment.seed, self.config
        tags = {"task": "probe", "corpus": "tones", "subject": "encoder"}
        return [
            Shared(name="shared", diary=str(config.diary), seed=seed),
            Own(name="own", config=config, inputs={"source": "shared"}, seed=seed),
            Probe(name="probe", config=config, inputs={"source": "own"}, seed=seed, tags=tags),
        ]


def act(run: StageRun[Shared]) -> None:
    """Note who makes the stage."""
    _note(run, Path(run.stage.diary))


def act_slowly(run: StageRun[Own]) -> None:
    """Note who makes the stage, take time, and fail if told to."""
    _note(run, run.stage.config.diary)
    time.sleep(run.stage.config.seconds)
    if run.stage.config.fails:
        raise ValueError("no luck")


def _note(run: StageRun[ossicle.Stage], diary: Path) -> None:
    with diary.open("a") as file:
        file.write(f"{run.stage.name} {run.stage.seed} {os.getpid()}\n")


def judge(run: StageRun[Probe]) -> None:
    """Leave what a probe leaves."""
    config = run.stage.config
    draw = np.random.default_rng([run.stage.seed, round(100 * config.right)])
    truth = np.eye(2, dtype=bool)[np.arange(CLIPS) % 2]
    right = draw.random(CLIPS) < config.right
    scores = np.where(right[:, None], truth, ~truth).astype(np.float32)
    value = float(right.mean())
    score = {"view": "mean", "metric": "accuracy", "value": value, "low": value - 0.1, "high": value + 0.1}
    score |= {"clips": CLIPS, "chosen": {"valid_accuracy": value}, "others": {"UAR": value}, "folds": {}}
    said = {**run.stage.tags, "multi_label": False, "scale": "probabilities", "scores": [score]}
    (run.folder / "scores.json").write_text(json.dumps(said))
    np.savez(run.folder / "predictions.npz", **{"scores/mean": scores, "clips": np.arange(CLIPS), "truth": truth})
