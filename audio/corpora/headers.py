"""Lengths and rates of many recordings, from their headers alone.

Notable choices: a small thread pool, because opening files waits on the disk; a file that cannot be read gets 0 frames
at 0 Hz instead of an error, since the survey reports every bad file at once. What the headers of a large corpus say is
kept in the cache, each under a hash of its file's state, so that a second run looks at the states alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import soundfile

from ..kept_clips import state_of
from .cache import cache_folder

PATH_REMEDY = (
    "Paths that begin with ./ are relative to the YAML file that states them, others to the working directory."
)

KEPT_FROM = 2000
"""Recordings from which on headers are kept."""

_THREADS = 8
_AT_ONCE = 64
_UNKNOWN = 0

T = TypeVar("T")
_log = logging.getLogger("ossicle")


def read_headers(root: Path, paths: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Read what the headers of `paths` below `root` state.

    Returns:
        (clips,) samples per channel and (clips,) rates in Hz; both 0 where a file is missing or unreadable.
    """
    root = root.absolute()
    places = [f"{root}/{path}" for path in paths]
    if len(places) < KEPT_FROM:
        return _columns(_each(_header, places))
    states = np.array(_each(_state, places), dtype=np.uint64)
    kept = _KeptHeaders.read(cache_folder() / "headers" / f"{_hash(str(root)):016x}.npz")
    frames, sample_rates, found = kept.look_up(states)
    missing = np.flatnonzero(~found)
    frames[missing], sample_rates[missing] = _columns(_each(_header, [places[place] for place in missing]))
    if missing.size:
        kept.replace(states, frames, sample_rates)
    return frames, sample_rates


def _each(ask: Callable[[str], T], places: Sequence[str]) -> list[T]:
    """Ask of every place, several at once."""
    if len(places) < _AT_ONCE:
        return [ask(place) for place in places]
    batches = [places[start : start + _AT_ONCE] for start in range(0, len(places), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            answer for answers in pool.map(lambda batch: [ask(place) for place in batch], batches) for answer in answers
        ]


def _columns(headers: Sequence[tuple[int, int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    table = np.array(headers, dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), table[:, 1].astype(np.int32)


def _header(place: str) -> tuple[int, int]:
    try:
        with soundfile.SoundFile(place) as file:
            return int(file.frames), int(file.samplerate)
    except (OSError, RuntimeError):
        return 0, 0


def _state(place: str) -> int:
    state = state_of(place)
    return _UNKNOWN if state is None else _hash(repr(state))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()) or 1


class _KeptHeaders:
    """What headers say by the state of their files, the states ascending."""

    def __init__(
        self,
        file: Path,
        states: npt.NDArray[np.uint64],
        frames: npt.NDArray[np.int64],
        sample_rates: npt.NDArray[np.int32],
    ) -> None:
        self._file = file
        self._states, self._frames, self._sample_rates = states, frames, sample_rates

    @classmethod
    def read(cls, file: Path) -> _KeptHeaders:
        """What an earlier run has kept in `file`; nothing where that is missing or damaged."""
        try:
            with np.load(file, allow_pickle=False) as kept:
                return cls(file, kept["states"], kept["frames"], kept["sample_rates"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return cls(file, np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int32))

    def look_up(
        self, states: npt.NDArray[np.uint64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """(files,) frames and rates, 0 where they are not known, and whether they are."""
        if not len(self._states):
            return np.zeros(len(states), np.int64), np.zeros(len(states), np.int32), np.zeros(len(states), np.bool_)
        places = np.searchsorted(self._states, states).clip(max=len(self._states) - 1)
        found = self._states[places] == states
        return np.where(found, self._frames[places], 0), np.where(found, self._sample_rates[places], 0), found

    def replace(
        self,
        states: npt.NDArray[np.uint64],
        frames: npt.NDArray[np.int64],
        sample_rates: npt.NDArray[np.int32],
    ) -> None:
        """Keep these for later runs, and no others; those of files that were changed just now are left out."""
        order = np.argsort(states)
        order = order[states[order] != _UNKNOWN]
        unfinished = self._file.with_suffix(f".{os.getpid()}.npz")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            np.savez(unfinished, states=states[order], frames=frames[order], sample_rates=sample_rates[order])
            unfinished.replace(self._file)
        except OSError as error:
            _log.warning("what the headers of the recordings say is not kept for later runs: %s", error)
