"""A plugin for tests: a schedule without training, whose stages record their process and take a configured time."""

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
    """Stages with a configured duration, one of which may fail."""

    diary: Path
    """The file to which every stage appends its name, its seed and its process."""
    label: str = "plain"
    """A label that distinguishes the stages of variants."""
    right: float = 0.5
    """Expected share of correct test clips."""
    seconds: float = 0.0
    """Duration of the stage `own`."""
    fails: bool = False
    """Whether the stage `own` fails."""


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
    """A stage that differs between variants."""

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
    """A stage that all variants share, one that differs between variants, and a score."""

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
    """Record the process of the stage."""
    _note(run, Path(run.stage.diary))


def act_slowly(run: StageRun[Own]) -> None:
    """Record the process of the stage, sleep, and fail if configured."""
    _note(run, run.stage.config.diary)
    time.sleep(run.stage.config.seconds)
    if run.stage.config.fails:
        raise ValueError("no luck")


def _note(run: StageRun[ossicle.Stage], diary: Path) -> None:
    with diary.open("a") as file:
        file.write(f"{run.stage.name} {run.stage.seed} {os.getpid()}\n")


def judge(run: StageRun[Probe]) -> None:
    """Write the files of a probe."""
    config = run.stage.config
    draw = np.random.default_rng([run.stage.seed, round(100 * config.right)])
    truth = np.eye(2, dtype=bool)[np.arange(CLIPS) % 2]
    right = draw.random(CLIPS) < config.right
    scores = np.where(right[:, None], truth, ~truth).astype(np.float32)
    value = float(right.mean())
    score = {"view": "mean", "metric": "accuracy", "value": value, "low": value - 0.1, "high": value + 0.1}
    score |= {"clips": CLIPS, "chosen": {"valid_accuracy": value}, "others": {"UAR": value}, "folds": {}}
    result = {**run.stage.tags, "multi_label": False, "scale": "probabilities", "scores": [score]}
    (run.folder / "scores.json").write_text(json.dumps(result))
    np.savez(run.folder / "predictions.npz", **{"scores/mean": scores, "clips": np.arange(CLIPS), "truth": truth})
