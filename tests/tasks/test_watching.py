"""Watching an encoder while it learns: what it sees, and that it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ossicle.core.corpus import Manifest
from ossicle.core.errors import ConfigError
from ossicle.core.store import Artifact
from ossicle.running import run
from ossicle.tasks.watching import without_test

WATCH = ("pretrain.watch=knn_probe", "pretrain.watch_every=4")


def test_no_test_clip_takes_part() -> None:
    splits = np.array(["train"] * 40 + ["valid"] * 5 + ["test"] * 7)
    paths = np.array([f"{number}.wav" for number in range(52)])
    rates = np.full(52, 16000, dtype=np.int32)
    manifest = Manifest(Path(), paths, np.ones(52, dtype=np.int64), rates, splits, [(0,)] * 52, ("a", "b"))
    watched = without_test(manifest)
    assert set(watched.splits[45:]) == {""}
    assert set(watched.splits[40:45]) == {"test"}
    assert set(watched.splits[:40]) == {"train", "valid"}


def artifact(folder: Path, kind: str) -> Artifact:
    stages = json.loads((folder / "run.json").read_text())["stages"]
    return Artifact((folder / next(stage["artifact"] for stage in stages if stage["kind"] == kind)).resolve())


def test_a_watched_training_learns_the_same_and_shows_more(tiny: Path, tmp_path: Path) -> None:
    plain = artifact(run(tiny, overrides=["evaluate=[]"], out=tmp_path / "plain"), "pretrain")
    watched = artifact(run(tiny, overrides=["evaluate=[]", *WATCH], out=tmp_path / "watched"), "pretrain")
    assert plain.card["key"] == watched.card["key"]
    assert (plain.path / "encoder.safetensors").read_bytes() == (watched.path / "encoder.safetensors").read_bytes()
    records = [json.loads(line) for line in (watched.path / "metrics.jsonl").read_text().splitlines()]
    shown = {record["step"]: {name for name in record if name.startswith("watched_")} for record in records}
    assert shown[4] == {"watched_accuracy_mean", "watched_accuracy_bands", "watched_accuracy_bands+std"}
    assert not shown[2]
    assert not shown[6]


def test_watching_needs_labels(tiny: Path, tmp_path: Path) -> None:
    unlabelled = "corpus.labels=none"
    with pytest.raises(ConfigError, match="needs a corpus with labelled `train` and `valid` clips"):
        run(tiny, overrides=["evaluate=[]", unlabelled, *WATCH], out=tmp_path / "runs")
