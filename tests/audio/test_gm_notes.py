"""`gm_notes`: rendered once, with reproducible samples and test notes that do not occur in training."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.gm_notes import INSTRUMENTS, GmNotesCorpus
from ossicle.audio.corpora.note_player import play_note
from ossicle.audio.corpora.rendering import package_folder
from ossicle.audio.corpora.soundfont import SoundFont
from ossicle.audio.corpus_config import GmNotesConfig
from ossicle.core.errors import CorpusError

TINY = GmNotesConfig(train_per_class=2, valid_per_class=1, test_per_class=1, unlabelled=16)

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("pretty_midi") is None, reason="the soundfont is in the wheel of pretty_midi"
)


@pytest.fixture(scope="module")
def rendered_cache(tmp_path_factory: pytest.TempPathFactory, slow: None) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSSICLE_CACHE", str(cache))
        GmNotesCorpus(TINY).prepare()
    return cache


@pytest.fixture
def corpus(rendered_cache: Path, monkeypatch: pytest.MonkeyPatch) -> GmNotesCorpus:
    monkeypatch.setenv("OSSICLE_CACHE", str(rendered_cache))
    return GmNotesCorpus(TINY)


@needs_wheel
def test_has_the_clips_that_the_configuration_states(corpus: GmNotesCorpus) -> None:
    manifest = corpus.manifest()

    counts = {split: manifest.rows_in(split).size for split in ("train", "valid", "test", "unlabelled")}
    assert counts == {"train": 32, "valid": 16, "test": 16, "unlabelled": 16}
    assert manifest.label_names == tuple(INSTRUMENTS.values())
    assert all(len(manifest.labels[row]) == 1 for row in manifest.rows_in("train", "valid", "test"))
    assert all(manifest.labels[row] == () for row in manifest.rows_in("unlabelled"))


@needs_wheel
def test_splits_have_disjoint_pitch_classes(corpus: GmNotesCorpus) -> None:
    manifest, contents = corpus.manifest(), corpus.contents()

    def heard(*splits: str) -> set[int]:
        return {int(key) % 12 for row in manifest.rows_in(*splits) for key in contents[row].split()}

    assert heard("train", "unlabelled") == {0, 2, 5, 7, 8, 10}
    assert heard("valid") == {3, 11}
    assert heard("test") == {1, 4, 6, 9}


@needs_wheel
def test_every_clip_sounds_for_two_seconds_and_never_clips(corpus: GmNotesCorpus) -> None:
    manifest = corpus.manifest()
    for row in range(len(manifest)):
        samples, sample_rate = soundfile.read(manifest.path(row), dtype="float64")
        assert (samples.shape, sample_rate) == ((32000,), 16000)
        assert 0.01 < np.abs(samples).max() < 0.99
    assert (manifest.seconds == 2.0).all()


@needs_wheel
def test_rendering_again_gives_the_same_samples(
    corpus: GmNotesCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = corpus.manifest()
    monkeypatch.setenv("OSSICLE_CACHE", str(tmp_path))

    again = GmNotesCorpus(TINY).manifest()

    assert again.root != first.root
    assert again.fingerprint() == first.fingerprint()
    assert again.path(0).read_bytes() == first.path(0).read_bytes()


@needs_wheel
def test_rendered_clips_are_cached_and_no_temporary_folder_is_left(corpus: GmNotesCorpus) -> None:
    clip = corpus.manifest().path(0)
    written = clip.stat().st_mtime_ns

    GmNotesCorpus(TINY).prepare()

    assert clip.stat().st_mtime_ns == written
    assert [folder.name for folder in corpus.folder.parent.iterdir()] == [corpus.folder.name]


@needs_wheel
def test_a_note_has_the_pitch_of_its_key_and_falls_silent() -> None:
    font = SoundFont(package_folder("pretty_midi") / "TimGM6mb.sf2")

    for program, key in [(73, 69), (19, 60), (56, 64)]:
        note = play_note(font, program, key, 100, held_seconds=1.0, seconds=3.0, sample_rate=44100)
        power = np.abs(np.fft.rfft(note[:44100] * np.hanning(44100))) ** 2  # one bin per Hz
        # An organ also sounds the octave below.
        octave_below = 440 * 2 ** ((key - 69) / 12) / 2
        harmonic = np.arange(power.size) / octave_below
        near_harmonic = np.abs(harmonic - np.rint(harmonic)) * octave_below < 8
        assert power[near_harmonic].sum() > 0.9 * power.sum()
        assert np.abs(note[100000:]).max() < 0.01 * np.abs(note).max()


def test_reports_how_to_install_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSICLE_CACHE", str(tmp_path))
    monkeypatch.setattr(GmNotesCorpus, "package", "ossicle_no_such_package")

    (problem,) = GmNotesCorpus(TINY).problems()

    assert "`ossicle_no_such_package`" in problem
    assert "pip install 'ossicle[corpora]'" in problem
    with pytest.raises(CorpusError, match="not installed"):
        GmNotesCorpus(TINY).manifest()
