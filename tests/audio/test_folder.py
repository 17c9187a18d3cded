"""A corpus from a tree of audio files: labels, splits, and error messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.folder import FolderCorpus
from ossicle.audio.corpus_config import FolderConfig
from ossicle.core.errors import CorpusError


def touch_sounds(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, np.zeros(800), 8000)


def test_lists_every_format_at_any_depth_with_the_values_of_the_headers(tmp_path: Path) -> None:
    touch_sounds(tmp_path, "b.wav", "deep/er/a.FLAC", "c.ogg")
    touch_sounds(tmp_path, "._b.wav", ".cache/x.wav")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "broken.wav").write_text("not audio")

    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()

    assert list(manifest.paths) == ["b.wav", "broken.wav", "c.ogg", "deep/er/a.FLAC"]
    assert manifest.frames.tolist() == [800, 0, 800, 800]
    assert manifest.sample_rates.tolist() == [8000, 0, 8000, 8000]
    assert set(manifest.splits) == {"train"}
    assert manifest.label_names == ()


def test_another_version_of_the_recordings_has_another_fingerprint(tmp_path: Path) -> None:
    touch_sounds(tmp_path, *(f"{folder}/{name}.wav" for folder in ("raw", "copy", "denoised") for name in "ab"))
    soundfile.write(tmp_path / "denoised" / "b.wav", np.full(800, 0.5), 8000)

    raw, copy, denoised = (
        FolderCorpus(FolderConfig(path=tmp_path / folder)).manifest().fingerprint()
        for folder in ("raw", "copy", "denoised")
    )

    assert raw == copy != denoised


def test_labels_are_the_first_folders(tmp_path: Path) -> None:
    touch_sounds(tmp_path, "dog/monday/1.wav", "dog/2.wav", "cat/1.wav")

    manifest = FolderCorpus(FolderConfig(path=tmp_path, labels="folders")).manifest()

    assert manifest.label_names == ("cat", "dog")
    assert manifest.labels == [(0,), (1,), (1,)]


def test_folders_named_as_splits_are_splits(tmp_path: Path) -> None:
    touch_sounds(tmp_path, "train/dog/1.wav", "val/dog/2.wav", "Test/cat/3.wav", "unlabelled/4.wav")

    manifest = FolderCorpus(FolderConfig(path=tmp_path, labels="folders")).manifest()

    assert dict(zip(manifest.paths.tolist(), manifest.splits.tolist(), strict=True)) == {
        "train/dog/1.wav": "train",
        "val/dog/2.wav": "valid",
        "Test/cat/3.wav": "test",
        "unlabelled/4.wav": "unlabelled",
    }
    assert manifest.label_names == ("cat", "dog")
    assert manifest.labels[list(manifest.paths).index("unlabelled/4.wav")] == ()


def test_drawn_splits_have_their_shares_and_do_not_change_when_files_are_added(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / f"{number}.wav").touch()
    config = FolderConfig(path=tmp_path, valid_share=0.2, test_share=0.3)
    before = FolderCorpus(config).manifest()
    splits = dict(zip(before.paths.tolist(), before.splits.tolist(), strict=True))
    for number in range(1000, 1100):
        (tmp_path / f"{number}.wav").touch()
    after = FolderCorpus(config).manifest()

    assert before.rows_in("valid").size == pytest.approx(30, abs=15)
    assert before.rows_in("test").size == pytest.approx(45, abs=15)
    assert splits.items() <= dict(zip(after.paths.tolist(), after.splits.tolist(), strict=True)).items()
    other_seed = FolderCorpus(config.model_copy(update={"split_seed": 1})).manifest()
    assert (other_seed.splits != after.splits).any()


def test_errors_name_the_searched_folder_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere` does not exist .*relative to the YAML file"):
        FolderCorpus(FolderConfig(path=tmp_path / "nowhere")).manifest()
    with pytest.raises(CorpusError, match=r"no audio files below .*\.wav.* at any depth"):
        FolderCorpus(FolderConfig(path=tmp_path)).manifest()

    touch_sounds(tmp_path, "train/a.wav", "extra/b.wav")
    with pytest.raises(CorpusError, match=r"`train` is named as a split, but `extra` is not.*`splits: shares`"):
        FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    assert len(FolderCorpus(FolderConfig(path=tmp_path, splits="shares")).manifest()) == 2


def test_reports_problems_of_labels_and_shares(tmp_path: Path) -> None:
    touch_sounds(tmp_path, "train/dog/a.wav", "train/b.wav")

    (loose,) = FolderCorpus(FolderConfig(path=tmp_path, labels="folders")).problems()
    assert "1 is directly" in loose
    assert "`train/b.wav`" in loose
    (idle,) = FolderCorpus(FolderConfig(path=tmp_path, test_share=0.5)).problems()
    assert "have no effect" in idle
    (greedy,) = FolderCorpus(FolderConfig(path=tmp_path, splits="shares", test_share=0.5, valid_share=0.5)).problems()
    assert "leaves nothing for training" in greedy
