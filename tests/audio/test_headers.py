"""Headers of many recordings: read once, cached for later runs, and read again when a file has changed."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora import headers
from ossicle.audio.corpora.headers import read_headers

RATE, FILES = 8000, 200
PATHS = [f"{number % 7}/{number}.wav" for number in range(FILES)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recordings of 1, 2, … samples, the last of which is not audio. They count as written long ago."""
    for folder in {path.split("/")[0] for path in PATHS}:
        (tmp_path / "sounds" / folder).mkdir(parents=True)
    for number, path in enumerate(PATHS):
        soundfile.write(tmp_path / "sounds" / path, np.zeros(number + 1), RATE)
    (tmp_path / "sounds" / PATHS[-1]).write_text("not audio")
    monkeypatch.setenv("OSSICLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(headers, "CACHE_FROM", 10)
    now = time.time_ns
    monkeypatch.setattr("ossicle.audio.clip_cache.time.time_ns", lambda: now() + 10**10)
    return tmp_path / "sounds"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each file is opened."""
    counts: Counter[str] = Counter()
    read = headers._header

    def header(path: str) -> tuple[int, int, int]:
        counts[path] += 1
        return read(path)

    monkeypatch.setattr(headers, "_header", header)
    return counts


EXPECTED = [*range(1, FILES), 0], [*[RATE] * (FILES - 1), 0]


def stated(root: Path, paths: list[str] = PATHS) -> tuple[list[int], list[int]]:
    frames, rates, contents = read_headers(root, paths)
    assert (frames.dtype, rates.dtype, contents.dtype) == (np.int64, np.int32, np.uint64)
    return frames.tolist(), rates.tolist()


def test_headers_are_read_once(root: Path, opened: Counter[str]) -> None:
    assert stated(root) == EXPECTED
    assert opened == Counter({f"{root}/{path}": 1 for path in PATHS})
    opened.clear()
    assert stated(root) == EXPECTED
    assert stated(root, PATHS[::-1]) == (EXPECTED[0][::-1], EXPECTED[1][::-1])
    assert not opened


def test_notices_changed_removed_and_new_files(root: Path, opened: Counter[str]) -> None:
    stated(root)
    opened.clear()
    soundfile.write(root / PATHS[3], np.zeros(4000), 16000)
    (root / PATHS[4]).unlink()
    soundfile.write(root / "new.wav", np.zeros(7), RATE)
    frames, rates = stated(root, [*PATHS, "new.wav"])
    assert (frames[3], rates[3]) == (4000, 16000)
    assert (frames[4], rates[4]) == (0, 0)
    assert frames[-1] == 7
    assert set(opened) == {f"{root}/{path}" for path in (PATHS[3], PATHS[4], "new.wav")}


@pytest.mark.parametrize("damage", [b"", b"PK cut short"])
def test_a_damaged_cache_is_replaced(root: Path, opened: Counter[str], tmp_path: Path, damage: bytes) -> None:
    stated(root)
    (saved,) = (tmp_path / "cache" / "headers").iterdir()
    saved.write_bytes(damage)
    opened.clear()
    assert stated(root) == EXPECTED
    assert len(opened) == FILES
    opened.clear()
    assert stated(root) == EXPECTED
    assert not opened


def test_an_unusable_cache_gives_a_warning(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert stated(root) == EXPECTED
    assert "could not cache the headers of the recordings for later runs" in caplog.text


def test_headers_of_a_small_corpus_are_not_cached(root: Path, tmp_path: Path) -> None:
    stated(root, PATHS[:9])
    assert not (tmp_path / "cache").exists()


def test_another_version_of_a_recording_has_another_digest(root: Path) -> None:
    before = read_headers(root, PATHS).contents
    sounds = np.full(FILES - 1, 0.1)
    soundfile.write(root / PATHS[FILES - 2], sounds, RATE)
    soundfile.write(root.parent / "cache.wav", sounds, RATE)
    after = read_headers(root, [*PATHS, "../cache.wav"]).contents
    assert np.flatnonzero(before != after[:FILES]).tolist() == [FILES - 2]
    assert after[FILES] == after[FILES - 2]


def test_paths_may_be_absolute(root: Path) -> None:
    assert stated(root, [str(root / path) for path in PATHS]) == EXPECTED


def test_a_named_pipe_is_not_opened(pipe: Path) -> None:
    frames, rates, contents = read_headers(pipe.parent, [pipe.name])
    assert (frames.tolist(), rates.tolist(), contents.tolist()) == ([0], [0], [0])


def test_an_implausible_rate_gives_no_length(root: Path) -> None:
    data = bytearray((root / PATHS[3]).read_bytes())
    data[24:28] = (1).to_bytes(4, "little")
    (root / PATHS[3]).write_bytes(bytes(data))
    frames, rates, contents = read_headers(root, [PATHS[3]])
    assert (frames.tolist(), rates.tolist()) == ([0], [0])
    assert contents[0] != 0
