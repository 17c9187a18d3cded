"""A named pipe that no test may open."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A named pipe below `tmp_path`. Whoever opens it finds an end of file instead of blocking, and fails the test."""
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
    assert not was_opened.is_set(), "the named pipe was opened, which blocks outside of this test"
