"""Both versions of Speech Commands in their real layout: splits, classes, cut silence, and error messages."""

from __future__ import annotations

import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.speech_commands import (
    KS1_CLASSES,
    NOISE,
    NOISES,
    V1_WORDS,
    V2_WORDS,
    SpeechCommandsV1Corpus,
    SpeechCommandsV2Corpus,
)
from ossicle.audio.published_corpus_config import SpeechCommandsV1Config, SpeechCommandsV2Config
from ossicle.core.errors import CorpusError
from ossicle.core.manifest import Manifest

TRAINING, VALIDATION, TESTING = "0a7c2a8d_nohash_0.wav", "026290a7_nohash_0.wav", "b00c4c53_nohash_1.wav"
SECONDS = 10


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSICLE_CACHE", str(tmp_path / "cache"))


def sound(path: Path, seconds: float = 0.1, *, sample_rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.arange(round(seconds * sample_rate), dtype=np.int64)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", ""))
        file.writeframes((steps // 100 % 2000).astype("<i2").tobytes())


def archive(folder: Path, words: tuple[str, ...]) -> Path:
    """Write an archive in the real layout with one clip of each word in each split."""
    for word in words:
        for name in (TRAINING, VALIDATION, TESTING):
            sound(folder / word / name)
        (folder / word / f"._{TRAINING}").touch()
    for noise in NOISES:
        sound(folder / NOISE / f"{noise}.wav", SECONDS + 0.9)
    (folder / NOISE / "README.md").write_text("Mixed Noise Audio\n")
    for name in ("README.md", "LICENSE", ".DS_Store"):
        (folder / name).touch()
    (folder / "validation_list.txt").write_text("\n".join(f"{word}/{VALIDATION}" for word in words) + "\n")
    # The real lists of v0.02 do not end with a newline.
    (folder / "testing_list.txt").write_text("\n".join(f"{word}/{TESTING}" for word in words))
    return folder


def official_test_archive(folder: Path) -> Path:
    """Write the separate test archive of v0.01: a folder for each of the 12 classes."""
    for name in KS1_CLASSES:
        sound(folder / name / ("silence_000.wav" if name == "_silence_" else TESTING), 1.0)
    return folder


def v1(folder: Path, test_path: Path | None = None) -> SpeechCommandsV1Corpus:
    return SpeechCommandsV1Corpus(SpeechCommandsV1Config(path=folder, test_path=test_path, partial=True))


def v2(folder: Path) -> SpeechCommandsV2Corpus:
    return SpeechCommandsV2Corpus(SpeechCommandsV2Config(path=folder, partial=True))


def labels_in(manifest: Manifest, split: str) -> Counter[str]:
    return Counter(manifest.label_names[manifest.labels[row][0]] for row in manifest.rows_in(split))


def test_the_official_numbers() -> None:
    assert SpeechCommandsV2Corpus.expected == {"train": 84_843, "valid": 9_981, "test": 11_005}
    assert sum(SpeechCommandsV2Corpus.expected.values()) == 105_829
    expected = SpeechCommandsV1Corpus.expected
    assert expected["train"] + expected["valid"] + expected["testing_list.txt"] == 64_721
    assert expected["test archive"] == 3_081
    assert (len(V1_WORDS), len(V2_WORDS), len(KS1_CLASSES)) == (30, 35, 12)


def test_v2_has_a_class_for_each_word_and_the_splits_of_the_lists(tmp_path: Path) -> None:
    manifest = v2(archive(tmp_path / "data", V2_WORDS)).manifest()

    assert manifest.label_names == V2_WORDS
    for split, name in (("train", TRAINING), ("valid", VALIDATION), ("test", TESTING)):
        assert labels_in(manifest, split) == dict.fromkeys(V2_WORDS, 1)
        assert {Path(manifest.paths[row]).name for row in manifest.rows_in(split)} == {name}
    row = manifest.paths.tolist().index(f"backward/{TRAINING}")
    assert manifest.labels[row] == (0,)
    assert manifest.root == tmp_path / "data"
    assert set(manifest.frames) == {1600}


def test_v1_has_ten_words_unknown_and_silence(tmp_path: Path) -> None:
    manifest = v1(archive(tmp_path / "data", V1_WORDS)).manifest()

    words = dict.fromkeys(KS1_CLASSES[:10], 1)
    assert manifest.label_names == KS1_CLASSES
    assert labels_in(manifest, "train") == {**words, "_unknown_": 20, "_silence_": 6 * 8}
    assert labels_in(manifest, "valid") == {**words, "_unknown_": 20, "_silence_": 6}
    assert labels_in(manifest, "test") == {**words, "_unknown_": 20, "_silence_": 6}
    assert all(manifest.path(row).is_file() for row in range(len(manifest)))


def test_v1_is_tested_only_on_the_test_archive_if_it_is_given(tmp_path: Path) -> None:
    archive(tmp_path / "data", V1_WORDS)

    manifest = v1(tmp_path / "data", official_test_archive(tmp_path / "test")).manifest()

    assert labels_in(manifest, "test") == dict.fromkeys(KS1_CLASSES, 1)
    assert all(manifest.path(row).is_relative_to(manifest.root / "test_archive") for row in manifest.rows_in("test"))
    assert labels_in(manifest, "valid")["_silence_"] == 6
    assert not any(TESTING in path for path in manifest.paths[manifest.rows_in("train", "valid")])


def test_silence_is_cut_into_successive_seconds_each_in_one_split(tmp_path: Path) -> None:
    manifest = v1(archive(tmp_path / "data", V1_WORDS)).manifest()
    noise, _ = soundfile.read(tmp_path / "data" / NOISE / "pink_noise.wav", dtype="int16")

    cut = {
        split: [
            soundfile.read(manifest.path(row), dtype="int16")[0]
            for row in manifest.rows_in(split)
            if "pink_noise" in manifest.paths[row]
        ]
        for split in ("train", "valid", "test")
    }

    assert {len(clip) for clips in cut.values() for clip in clips} == {16000}
    np.testing.assert_array_equal(np.concatenate(cut["train"]), noise[: 8 * 16000])
    np.testing.assert_array_equal(np.concatenate(cut["valid"]), noise[8 * 16000 : 9 * 16000])
    np.testing.assert_array_equal(np.concatenate(cut["test"]), noise[9 * 16000 : 10 * 16000])


@pytest.mark.slow
def test_silence_is_cut_once_and_again_when_the_noise_changes(tmp_path: Path) -> None:
    folder = archive(tmp_path / "data", V1_WORDS)
    assert not v1(folder).is_ready
    before = v1(folder).manifest()
    assert v1(folder).is_ready

    sound(folder / NOISE / "white_noise.wav", 7)

    assert not v1(folder).is_ready
    assert len(v1(folder).manifest()) == len(before) - 3


@pytest.mark.slow
def test_the_fingerprint_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    here, there = (v1(archive(tmp_path / name, V1_WORDS)).manifest() for name in ("here", "there"))

    assert here.fingerprint() == there.fingerprint()
    assert here.root != there.root


def test_an_incomplete_corpus_is_refused_with_the_numbers(tmp_path: Path) -> None:
    folder = archive(tmp_path / "data", V2_WORDS)
    with pytest.raises(
        CorpusError, match=r"v0\.02 below .*: train 35 of 84843, valid 35 of 9981, test 35 of 11005\. S"
    ):
        SpeechCommandsV2Corpus(SpeechCommandsV2Config(path=folder)).manifest()

    folder = archive(tmp_path / "v1", V1_WORDS)
    (folder / NOISE / "exercise_bike.wav").unlink()
    config = SpeechCommandsV1Config(path=folder, test_path=official_test_archive(tmp_path / "test"))
    message = (
        r"train 30 of 51088, valid 30 of 6798, testing_list\.txt 30 of 6835, noise recordings 5 of 6, test archive 12 "
        r"of 3081; listed but missing: 1, the first `_background_noise_/exercise_bike\.wav`\. Set"
    )
    with pytest.raises(CorpusError, match=message):
        SpeechCommandsV1Corpus(config).prepare()
    assert not (tmp_path / "cache").exists()


def test_the_card_lists_the_missing_clips(tmp_path: Path) -> None:
    folder = archive(tmp_path / "data", V2_WORDS)
    (folder / "zero" / TESTING).unlink()

    card = v2(folder).card()

    assert card["counts"]["test"] == {"present": 34, "expected": 11_005}
    assert card["first_missing"] == [f"zero/{TESTING}"]
    assert card["license"] == "CC BY 4.0"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "zero/nobody.wav",
            r"testing_list\.txt:36: `zero/nobody\.wav` is not a clip; expected WORD/SPEAKER_nohash_",
        ),
        (f"zero/{TESTING}", r"testing_list\.txt:36: `zero/.*` is already listed at .*testing_list\.txt:35"),
        (f"zero/{VALIDATION}", r"testing_list\.txt:36: `zero/.*` is already listed at .*validation_list\.txt:35"),
    ],
)
def test_reports_the_place_of_a_wrong_line(tmp_path: Path, line: str, message: str) -> None:
    folder = archive(tmp_path / "data", V2_WORDS)
    with (folder / "testing_list.txt").open("a") as file:
        file.write(f"\n{line}\n")

    with pytest.raises(CorpusError, match=message):
        v2(folder).manifest()


def test_reports_the_other_version_and_unknown_recordings(tmp_path: Path) -> None:
    folder = archive(tmp_path / "data", V2_WORDS)

    with pytest.raises(CorpusError, match=r"folders that Speech Commands v0\.01 does not have: `backward`, `follow`"):
        v1(folder).manifest()
    sound(folder / "yes" / "mine.wav")
    with pytest.raises(CorpusError, match=r"yes/mine\.wav` is not named SPEAKER_nohash_NUMBER\.wav; remove it"):
        v2(folder).manifest()
    with pytest.raises(CorpusError, match=r"test archive `.*data` contains the folders .*`zero`; allowed: yes, no, up"):
        v1(archive(tmp_path / "v1", V1_WORDS), folder).manifest()


def test_reports_noise_of_another_format(tmp_path: Path) -> None:
    folder = archive(tmp_path / "data", V1_WORDS)
    sound(folder / NOISE / "running_tap.wav", sample_rate=8000)

    with pytest.raises(CorpusError, match=r"running_tap\.wav` is not mono at 16000 Hz"):
        v1(folder).manifest()


def test_reports_how_to_get_missing_folders_and_lists(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"v0\.02: the folder `.*gone` does not exist .*speech_commands_v0\.02\.tar"):
        v2(tmp_path / "gone").manifest()
    with pytest.raises(CorpusError, match=r"v0\.01: the folder `.*gone` does not exist .*speech_commands_test_set_v0"):
        v1(archive(tmp_path / "data", V1_WORDS), tmp_path / "gone").manifest()
    (tmp_path / "data" / "testing_list.txt").unlink()
    with pytest.raises(
        CorpusError, match=r"testing_list\.txt` does not exist, so `path` is not the corpus as distributed"
    ):
        v1(tmp_path / "data").manifest()
