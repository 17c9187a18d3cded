"""A mix of corpora: which clips it has, how often each is drawn, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from ossicle.audio.corpora.mix import MixCorpus
from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.corpus import Corpus
from ossicle.core.errors import CorpusError
from ossicle.core.plugin_loading import load_plugins

CLIPS = {"long": {"train": 3, "valid": 2}, "short": {"train": 5, "unlabelled": 4, "test": 1}}
SECONDS = {"long": 4.0, "short": 0.5}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name, splits in CLIPS.items():
        for split, count in splits.items():
            (tmp_path / name / split).mkdir(parents=True)
            for number in range(count):
                wave = np.random.default_rng(number).normal(0, 0.1, int(8000 * SECONDS[name]))
                soundfile.write(tmp_path / name / split / f"{number}.wav", wave, 8000)
    return tmp_path


def mix(folders: Path, **shares: float | None) -> MixCorpus:
    catalog = load_plugins().catalog
    members: list[dict[str, Any]] = [
        {"corpus": {"type": "folder", "path": str(folders / name)}, "share": shares.get(name)} for name in CLIPS
    ]
    choice = PartChoice.of(catalog.get("corpus", "mix"), {"corpora": members}, catalog=catalog)
    made = build(choice, Corpus)
    assert isinstance(made, MixCorpus)
    return made


def test_the_clips_are_those_for_training_and_have_no_labels(folders: Path) -> None:
    manifest = mix(folders).manifest()
    assert sorted(manifest.paths.tolist()) == sorted(
        [f"long/train/{number}.wav" for number in range(3)]
        + [f"short/train/{number}.wav" for number in range(5)]
        + [f"short/unlabelled/{number}.wav" for number in range(4)]
    )
    assert set(manifest.splits) == {"unlabelled"}
    assert not manifest.labels.counts.any()
    assert not manifest.weights.size
    assert all(manifest.path(clip).is_file() for clip in range(len(manifest)))


def test_a_share_is_one_of_the_audio(folders: Path) -> None:
    manifest = mix(folders, long=1.0, short=3.0).manifest()
    expected = manifest.weights * manifest.seconds
    is_long = np.array([path.startswith("long/") for path in manifest.paths.tolist()])
    assert expected[~is_long].sum() == pytest.approx(3 * expected[is_long].sum())
    assert np.array_equal(manifest.take(np.array([4, 0])).weights, manifest.weights[[4, 0]])


def test_shares_change_the_fingerprint(folders: Path) -> None:
    found = {mix(folders, **shares).manifest().fingerprint() for shares in ({}, {"long": 1.0, "short": 1.0})}
    assert len(found) == 2
    assert mix(folders).manifest().fingerprint() in found


def test_either_all_or_no_corpora_have_a_share(folders: Path) -> None:
    with pytest.raises(ValidationError, match="need a `share`, or none: add one to short"):
        mix(folders, long=1.0)


def test_a_corpus_without_clips_to_train_on_is_refused(folders: Path) -> None:
    for clip in (folders / "long" / "train").iterdir():
        clip.rename(folders / "long" / "valid" / f"moved-{clip.name}")
    (folders / "long" / "train").rmdir()
    with pytest.raises(CorpusError, match="corpus `long` of the mix has no `train` or `unlabelled` clips: remove it"):
        mix(folders).manifest()
