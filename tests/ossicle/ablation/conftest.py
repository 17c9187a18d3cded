"""Ablation folders whose cells are copies of one real run with simulated predictions and figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from ossicle.cli import main
from ossicle.core.store import CARD, write_card

METRIC = "linear_probe/tones/accuracy"
BASE = "name: tiny\nencoder: {type: beats, size: tiny}\n"


@pytest.fixture(scope="session")
def tiny_run(tiny_yaml: str, tmp_path_factory: pytest.TempPathFactory, slow: None) -> Path:
    """A real run that takes seconds, with its store beside it."""
    folder = tmp_path_factory.mktemp("tiny")
    experiment = folder / "tiny.yaml"
    experiment.write_text(tiny_yaml)
    assert main(["run", str(experiment), "--out", str(folder / "runs")]) == 0
    return folder / "runs" / "tiny"


@dataclass(frozen=True)
class FakeVariant:
    """One variant of a simulated ablation.

    Attributes:
        accuracy: mean share of correct clips
        seed_sd: standard deviation of the accuracy over seeds
        perplexity: perplexity of its tokens
        tokenizer: settings of its tokenizer that differ from the base
    """

    name: str
    accuracy: float
    seed_sd: float = 0.01
    control: bool = False
    perplexity: float = 100.0
    tokenizer: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    FakeVariant("random projection", 0.55, perplexity=90),
    FakeVariant("k-means", 0.57, perplexity=120, tokenizer={"type": "kmeans"}),
    FakeVariant("self-distilled", 0.75, perplexity=210, tokenizer={"normalize": "l2"}),
    FakeVariant("collapsed", 0.30, perplexity=4, tokenizer={"codebook_size": 2}),
    FakeVariant("labels of only the position", 0.56, perplexity=96, control=True),
)


class FakeStudy:
    """Writer of a simulated ablation."""

    def __init__(self, folder: Path, real: Path, *, clips: int = 300, seeds: Sequence[int] = (0, 1, 2)) -> None:
        self.folder, self.seeds, self._real, self._clips = folder, seeds, real, clips
        self._draw = np.random.default_rng(0)
        self._hardness = self._draw.normal(size=clips)
        self.about: dict[str, Any] = {
            "name": "tokenizers",
            "command": "ossicle ablate experiments/ablations/tokenizers.yaml",
            "base": BASE,
            "baseline": "random projection",
            "metric": METRIC,
            "secondary": [],
            "encoder": None,
            "seeds": list(seeds),
            "axes": {"tokenizer": []},
            "variants": [],
            "cells": [],
            "jobs": 1,
            "started": "2026-11-22T08:00:00+00:00",
            "finished": "2026-11-22T09:12:00+00:00",
            "seconds": 4320.0,
            "versions": {"ossicle": "0.1.0", "torch": "2.9.1"},
            "machine": {"cores": 2, "memory_gib": 23.5, "device": "cpu"},
        }

    def add(self, variant: FakeVariant, *, failing: Mapping[int, str] | None = None) -> FakeStudy:
        """Add a variant with a cell for every seed. Seeds in `failing` get an error instead of a run."""
        overrides = [f"schedule.iterations.0.tokenizer.{key}={value}" for key, value in variant.tokenizer.items()]
        self.about["axes"]["tokenizer"].append(variant.name)
        values = {"tokenizer": variant.name}
        self.about["variants"].append(
            {"name": variant.name, "control": variant.control, "values": values, "overrides": overrides, "patch": {}}
        )
        for seed in self.seeds:
            run = f"cells/{variant.name.replace(' ', '-')}-seed{seed}"
            error = (failing or {}).get(seed)
            state = {"state": "failed" if error else "done", "error": error, "seconds": 118.0}
            self.about["cells"].append({"variant": variant.name, "seed": seed, "run": run, **state})
            if not error:
                self._cell(self.folder / run, variant, seed)
        return self

    def write(self) -> Path:
        """Write `ablation.json` and return the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "ablation.json").write_text(json.dumps(self.about))
        return self.folder

    def _cell(self, folder: Path, variant: FakeVariant, seed: int) -> None:
        shutil.copytree(self._real, folder)
        run = json.loads((folder / "run.json").read_text())
        right = self._right(variant)
        for stage in run["stages"]:
            artifact = folder / "artifacts" / Path(stage["artifact"]).name
            shutil.copytree(self._real / stage["artifact"], artifact)
            stage["artifact"] = f"artifacts/{artifact.name}"
            if stage["kind"] == "evaluate" and stage["tags"]["subject"] == "iteration 1":
                self._judge(artifact, right)
            if stage["kind"] == "tokens":
                self._tokens(artifact, variant)
            if stage["kind"] == "pretrain":
                self._curves(artifact)
            # The card must list the files as they are now.
            write_card(artifact, json.loads((artifact / CARD).read_text()))
        run["seed"] = seed
        (folder / "run.json").write_text(json.dumps(run))
        config = yaml.safe_load((folder / "experiment.yaml").read_text()) | {"name": folder.name, "seed": seed}
        config["schedule"]["iterations"][0]["tokenizer"] |= variant.tokenizer
        (folder / "experiment.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def _right(self, variant: FakeVariant) -> npt.NDArray[np.bool_]:
        """Draw the correct clips, (clips,) bool: mostly those that are easy for every variant."""
        share = np.clip(variant.accuracy + variant.seed_sd * self._draw.normal(), 0, 1)
        difficulty = self._hardness + 0.6 * self._draw.normal(size=self._clips)
        return np.asarray(difficulty.argsort().argsort() < round(share * self._clips))

    def _judge(self, artifact: Path, right: npt.NDArray[np.bool_]) -> None:
        truth = np.eye(4, dtype=bool)[np.arange(self._clips) % 4]
        predicted = np.where(right[:, None], truth, np.roll(truth, 1, axis=1)).astype(np.float32)
        found = json.loads((artifact / "scores.json").read_text())
        for score in found["scores"]:
            value = float(right.mean())
            score |= {"value": value, "low": value - 0.05, "high": value + 0.05, "clips": self._clips}
            score["others"] = {"UAR": value}
        (artifact / "scores.json").write_text(json.dumps(found))
        views = {f"scores/{score['view']}": predicted for score in found["scores"]}
        np.savez(artifact / "predictions.npz", clips=np.arange(self._clips), truth=truth, **views)

    def _tokens(self, artifact: Path, variant: FakeVariant) -> None:
        found = json.loads((artifact / "tokens.json").read_text())
        noise = float(self._draw.normal())
        found |= {"perplexity": variant.perplexity + noise, "codebook_size": 512, "used": round(2 * variant.perplexity)}
        found |= {"label_information": 0.1 * variant.accuracy + 0.001 * noise, "label_chance": 0.01}
        (artifact / "tokens.json").write_text(json.dumps(found))

    def _curves(self, artifact: Path) -> None:
        done = np.linspace(0.02, 1, 50)
        loss = 3 + 3 * np.exp(-4 * done) + 0.05 * self._draw.normal(size=50)
        right = 0.3 * (1 - np.exp(-4 * done)) + 0.005 * self._draw.normal(size=50)
        lines = [
            json.dumps({"step": round(1500 * step), "loss": one, "masked_accuracy": two, "token_entropy": 5.1})
            for step, one, two in zip(done, loss, right, strict=True)
        ]
        (artifact / "metrics.jsonl").write_text("\n".join(lines))


@pytest.fixture
def fake_study(tiny_run: Path, tmp_path: Path) -> Callable[..., FakeStudy]:
    """A function that makes an ablation without variants."""

    def make(**options: Any) -> FakeStudy:
        return FakeStudy(tmp_path / "tokenizers", tiny_run, **options)

    return make


@pytest.fixture
def variant() -> type[FakeVariant]:
    """The class that describes a simulated variant."""
    return FakeVariant


@pytest.fixture(scope="session")
def study(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ablation of four tokenizers and a control with three seeds, written once."""
    return full_study(tmp_path_factory.mktemp("study") / "tokenizers", tiny_run)


def full_study(folder: Path, real: Path) -> Path:
    """Write a better and a worse variant, one like the baseline with a failed cell, and a control."""
    written = FakeStudy(folder, real)
    for variant in VARIANTS:
        written.add(
            variant, failing={2: "CorpusError: 3 of 4 files\ncannot be read"} if variant.name == "k-means" else None
        )
    written.about["secondary"] = ["knn_probe/tones/accuracy", "linear_probe/tones/UAR"]
    return written.write()
