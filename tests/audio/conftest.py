"""A named pipe that no test may open, and damaged MP3 files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session")
def write_damaged_mp3() -> Callable[[Path, int], None]:
    """Write 10 s of noise with a run of zeros in the middle. The decoder skips 1,000 zeros, and gives up on 4,000."""

    def write(path: Path, zeros: int) -> None:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 160_000)
        soundfile.write(path, noise, 16000, format="MP3")
        data = bytearray(path.read_bytes())
        middle = len(data) // 2
        data[middle : middle + zeros] = bytes(zeros)
        path.write_bytes(bytes(data))

    return write


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A named pipe below `tmp_path`. A test that opens it reads an end of file instead of blocking, and fails."""
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    is_over, was_opened = threading.Event(), threading.Event()

    def answer() -> None:
        while not is_over.is_set():
            with path.open("wb"):  # waits for a reader
                if not is_over.is_set():
                    was_opened.set()

    writer = threading.Thread(target=answer, daemon=True)
    writer.start()
    yield path
    is_over.set()
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.join()
    os.close(reader)
    assert not was_opened.is_set(), "the named pipe was opened, which would block outside of this test"
