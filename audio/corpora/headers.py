"""Lengths and rates of many recordings from their headers, and a digest that differs between versions of a recording.

Notable choices:
- A small thread pool, because opening files waits on the disk.
- A file that cannot be read gets 0 frames at 0 Hz instead of an error, since the survey reports all bad files together.
- The digest covers a file's size and its first, middle and last blocks, because reading a large corpus takes hours.
- Headers of a large corpus are kept in the cache under a hash of each file's state, so that a second run only looks at
  the states.
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

KEPT_FROM = 2000
"""Recordings from which on headers are kept."""

_THREADS = 8
_AT_ONCE = 64
_UNKNOWN = 0
_BLOCK = 4096

T = TypeVar("T")
_Table: TypeAlias = npt.NDArray[np.void]
_COLUMNS = np.dtype([("frames", np.int64), ("sample_rates", np.int32), ("contents", np.uint64)])
_log = logging.getLogger("ossicle")


class Headers(NamedTuple):
    """What many files say of themselves; all 0 where one is missing.

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
        """The columns of a table of `_COLUMNS`."""
        return cls(*(np.ascontiguousarray(table[name]) for name in cls._fields))


def read_headers(root: Path, paths: Sequence[str]) -> Headers:
    """Read what is known of the files at `paths`, each below `root` or absolute, without decoding them."""
    root = root.absolute()
    places = [os.path.join(root, path) for path in paths]
    if len(places) < KEPT_FROM:
        return Headers.of(_read_all(places))
    states = np.array(_each(_state, places), dtype=np.uint64)
    kept = _KeptHeaders.read(cache_folder() / "headers" / f"{_hash(str(root)):016x}.npz")
    headers, found = kept.look_up(states)
    missing = np.flatnonzero(~found)
    headers[missing] = _read_all([places[place] for place in missing])
    if missing.size:
        kept.replace(states, headers)
    return Headers.of(headers)


def _read_all(places: Sequence[str]) -> _Table:
    return np.array(_each(_header, places), dtype=_COLUMNS)


def _each(ask: Callable[[str], T], places: Sequence[str]) -> list[T]:
    """Ask of every place, several at once."""
    if len(places) < _AT_ONCE:
        return [ask(place) for place in places]
    batches = [places[start : start + _AT_ONCE] for start in range(0, len(places), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            answer for answers in pool.map(lambda batch: [ask(place) for place in batch], batches) for answer in answers
        ]


def _header(place: str) -> tuple[int, int, int]:
    content = 0
    try:
        content = _content(place)
        with open_sound(place) as file:
            return int(file.frames), int(file.samplerate), content
    except (OSError, CorpusError):
        return 0, 0, content


def _content(place: str) -> int:
    if not os.path.isfile(place):  # a named pipe would block
        return _UNKNOWN
    with open(place, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.blake2b(str(size).encode(), digest_size=8)
        for start in sorted({0, max(0, size // 2 - _BLOCK // 2), max(0, size - _BLOCK)}):
            file.seek(start)
            digest.update(file.read(_BLOCK))
    return _number(digest.digest())


def _state(place: str) -> int:
    state = state_of(place)
    return _UNKNOWN if state is None else _hash(repr(state))


def _hash(text: str) -> int:
    return _number(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest())


def _number(digest: bytes) -> int:
    """Not 0, which stands for what is not known."""
    return int.from_bytes(digest) or 1


class _KeptHeaders:
    """What headers say by the state of their files, the states ascending."""

    def __init__(self, file: Path, states: npt.NDArray[np.uint64], headers: _Table) -> None:
        self._file = file
        self._states, self._headers = states, headers

    @classmethod
    def read(cls, file: Path) -> _KeptHeaders:
        """What an earlier run has kept in `file`; nothing where that is missing or damaged."""
        try:
            with np.load(file, allow_pickle=False) as kept:
                return cls(file, kept["states"], kept["headers"].astype(_COLUMNS))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return cls(file, np.empty(0, np.uint64), np.empty(0, _COLUMNS))

    def look_up(self, states: npt.NDArray[np.uint64]) -> tuple[_Table, npt.NDArray[np.bool_]]:
        """What the files of these states say, 0 where that is not known, and (files,) whether it is."""
        headers = np.zeros(len(states), _COLUMNS)
        if not len(self._states):
            return headers, np.zeros(len(states), np.bool_)
        places = np.searchsorted(self._states, states).clip(max=len(self._states) - 1)
        found = self._states[places] == states
        headers[found] = self._headers[places[found]]
        return headers, found

    def replace(self, states: npt.NDArray[np.uint64], headers: _Table) -> None:
        """Keep these for later runs, and no others; those of files that were changed just now are left out."""
        order = np.argsort(states)
        order = order[states[order] != _UNKNOWN]
        unfinished = self._file.with_suffix(f".{os.getpid()}.npz")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(unfinished, states=states[order], headers=headers[order])
            unfinished.replace(self._file)
        except OSError as error:
            _log.warning("what the headers of the recordings say is not kept for later runs: %s", error)
