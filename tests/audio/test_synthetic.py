"""`synthetic`: the configured number, length and labels of clips, and reproducible samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.synthetic import SyntheticCorpus
from ossicle.audio.corpus_config import SyntheticConfig


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSSICLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_has_the_clips_that_the_configuration_states(cache: Path) -> None:
    corpus = SyntheticCorpus(SyntheticConfig(classes=3, clips_per_class=2, seconds=0.5))
    assert not corpus.is_ready
    manifest = corpus.manifest()
    assert {split: len(manifest.rows_in(split)) for split in ("train", "valid", "test", "unlabelled")} == {
        "train": 6,
        "valid": 6,
        "test": 6,
        "unlabelled": 6,
    }
    for split in ("train", "valid", "test"):
        assert sorted(manifest.labels[row] for row in manifest.rows_in(split)) == [(0,), (0,), (1,), (1,), (2,), (2,)]
    assert {manifest.labels[row] for row in manifest.rows_in("unlabelled")} == {()}
    samples, rate = soundfile.read(manifest.path(0))
    assert (len(samples), rate) == (8000, 16_000)
    assert manifest.seconds == pytest.approx(0.5)
    assert corpus.folder.is_relative_to(cache)


def test_classes_differ_in_pitch() -> None:
    manifest = SyntheticCorpus(SyntheticConfig(classes=2, clips_per_class=1, seconds=1.0)).manifest()
    low, high = (np.abs(np.fft.rfft(soundfile.read(manifest.path(row))[0])).argmax() for row in (0, 1))
    assert low < 200
    assert 700 < high < 1000


def test_clips_may_carry_several_labels() -> None:
    manifest = SyntheticCorpus(SyntheticConfig(classes=3, clips_per_class=2, seconds=0.2, multi_label=True)).manifest()
    assert manifest.multi_label
    assert sorted(len(manifest.labels[row]) for row in manifest.rows_in("train")) == [1, 1, 1, 2, 2, 2]
    assert all(labels == tuple(sorted(set(labels))) for labels in manifest.labels)


@pytest.mark.slow
def test_equal_seeds_give_equal_clips_and_other_seeds_other_clips(tmp_path: Path) -> None:
    def fingerprint(seed: int, folder: str) -> str:
        config = SyntheticConfig(path=tmp_path / folder, classes=2, clips_per_class=1, seconds=0.1, seed=seed)
        return SyntheticCorpus(config).manifest().fingerprint()

    assert fingerprint(0, "a") == fingerprint(0, "b") != fingerprint(1, "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
