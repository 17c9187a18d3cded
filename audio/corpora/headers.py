"""Lengths and rates of many recordings, from their headers alone.

Notable choices: a small thread pool, because opening files waits on the disk; a file that cannot be read gets 0 frames
at 0 Hz instead of an error, since the survey reports every bad file at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

PATH_REMEDY = (
    "Paths that begin with ./ are relative to the YAML file that states them, others to the working directory."
)

_THREADS = 8
_PARALLEL_FROM = 64


def read_headers(root: Path, paths: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Read what the headers of `paths` below `root` state.

    Returns:
        (clips,) samples per channel and (clips,) rates in Hz; both 0 where a file is missing or unreadable.
    """

    def header(path: str) -> tuple[int, int]:
        return _header(root / path)

    if len(paths) < _PARALLEL_FROM:
        headers = [header(path) for path in paths]
    else:
        with ThreadPoolExecutor(_THREADS) as pool:
            headers = list(pool.map(header, paths))
    table = np.array(headers, dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), table[:, 1].astype(np.int32)


def _header(path: Path) -> tuple[int, int]:
    try:
        with soundfile.SoundFile(path) as file:
            return int(file.frames), int(file.samplerate)
    except (OSError, RuntimeError):
        return 0, 0
