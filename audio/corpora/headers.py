"""Read lengths and rates of many recordings from their headers, and a digest that identifies each file's version.

Notable choices:

- A small thread pool opens the files, because opening waits for the disk.
- A file that cannot be read has 0 frames at 0 Hz instead of raising an error, because the survey reports all bad files
  together.
- The digest covers a file's size and its first, middle and last blocks, because reading a large corpus takes hours.
- Headers of a large corpus are cached under a hash of each file's state, so a second run reads only the states.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ...core.errors import CorpusError
from ..clip_cache import state_of
from ..decode import open_sound
from .cache import cache_folder

PATH_REMEDY = (
    "Paths that begin with ./ are relative to the YAML file that states them, others to the working directory."
)

CACHE_FROM = 2000
"""Number of recordings from which on headers are cached."""

_THREADS = 8
_BATCH = 64
_UNKNOWN = 0
_BLOCK = 4096

T = TypeVar("T")
_Table: TypeAlias = npt.NDArray[np.void]
_COLUMNS = np.dtype([("frames", np.int64), ("sample_rates", np.int32), ("contents", np.uint64)])
_log = logging.getLogger("ossicle")


class Headers(NamedTuple):
    """Headers of many files. All values of a missing file are 0.

    Attributes:
        frames: (files,) int64, samples per channel; 0 where a file cannot be read
        sample_rates: (files,) int32, in Hz; 0 where a file cannot be read
        contents: (files,) uint64, digests
    """

    frames: npt.NDArray[np.int64]
    sample_rates: npt.NDArray[np.int32]
    contents: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, table: _Table) -> Headers:
        """Create headers from a structured array with `_COLUMNS`."""
        return cls(*(np.ascontiguousarray(table[name]) for name in cls._fields))


def read_headers(root: Path, paths: Sequence[str]) -> Headers:
    """Read the headers of the files at `paths`, each relative to `root` or absolute, without decoding them."""
    root = root.absolute()
    files = [os.path.join(root, path) for path in paths]
    if len(files) < CACHE_FROM:
        return Headers.of(_read_all(files))
    states = np.array(_map(_state, files), dtype=np.uint64)
    cached = _CachedHeaders.read(cache_folder() / "headers" / f"{_hash(str(root)):016x}.npz")
    headers, found = cached.look_up(states)
    missing = np.flatnonzero(~found)
    headers[missing] = _read_all([files[number] for number in missing])
    if missing.size:
        cached.replace(states, headers)
    return Headers.of(headers)


def _read_all(files: Sequence[str]) -> _Table:
    return np.array(_map(_header, files), dtype=_COLUMNS)


def _map(function: Callable[[str], T], files: Sequence[str]) -> list[T]:
    """Call the function on every file, on several threads if there are many files."""
    if len(files) < _BATCH:
        return [function(file) for file in files]
    batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
    with ThreadPoolExecutor(_THREADS) as pool:
        results = pool.map(lambda batch: [function(file) for file in batch], batches)
        return [result for of_batch in results for result in of_batch]


def _header(path: str) -> tuple[int, int, int]:
    content = 0
    try:
        content = _content(path)
        with open_sound(path) as file:
            return int(file.frames), int(file.samplerate), content
    except (OSError, CorpusError):
        return 0, 0, content


def _content(path: str) -> int:
    if not os.path.isfile(path):  # a named pipe would block
        return _UNKNOWN
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.blake2b(str(size).encode(), digest_size=8)
        for start in sorted({0, max(0, size // 2 - _BLOCK // 2), max(0, size - _BLOCK)}):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return _number(digest.digest())


def _state(path: str) -> int:
    state = state_of(path)
    return _UNKNOWN if state is None else _hash(repr(state))


def _hash(text: str) -> int:
    return _number(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest())


def _number(digest: bytes) -> int:
    """Convert a digest to a number other than 0, because 0 means unknown."""
    return int.from_bytes(digest) or 1


class _CachedHeaders:
    """A table from file states, ascending, to headers."""

    def __init__(self, file: Path, states: npt.NDArray[np.uint64], headers: _Table) -> None:
        self._file = file
        self._states, self._headers = states, headers

    @classmethod
    def read(cls, file: Path) -> _CachedHeaders:
        """Load the table that an earlier run saved in `file`. It is empty if the file is missing or damaged."""
        try:
            with np.load(file, allow_pickle=False) as saved:
                return cls(file, saved["states"], saved["headers"].astype(_COLUMNS))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return cls(file, np.empty(0, np.uint64), np.empty(0, _COLUMNS))

    def look_up(self, states: npt.NDArray[np.uint64]) -> tuple[_Table, npt.NDArray[np.bool_]]:
        """Return the headers of these states, 0 where unknown, and (files,) bool whether each is known."""
        headers = np.zeros(len(states), _COLUMNS)
        if not len(self._states):
            return headers, np.zeros(len(states), np.bool_)
        rows = np.searchsorted(self._states, states).clip(max=len(self._states) - 1)
        found = self._states[rows] == states
        headers[found] = self._headers[rows[found]]
        return headers, found

    def replace(self, states: npt.NDArray[np.uint64], headers: _Table) -> None:
        """Save only these headers for later runs. Headers of files that were changed just now are left out."""
        order = np.argsort(states)
        order = order[states[order] != _UNKNOWN]
        unfinished = self._file.with_suffix(f".{os.getpid()}.npz")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(unfinished, states=states[order], headers=headers[order])
            unfinished.replace(self._file)
        except OSError as error:
            _log.warning("could not cache the headers of the recordings for later runs: %s", error)
