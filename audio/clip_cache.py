"""Spectrograms of clips that come whole, kept in memory for every stage of a process: small corpora are decoded once.

Notable choices: a clip is known by its file's state, looked up each time that it is asked for, so that what has changed
on disk is read anew; a full store refuses a clip sooner than it drops one of the same stream, because dropping the one
that was used longest ago would drop each just before its next epoch; what only earlier streams have used makes room.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ..core.errors import OssicleError

if TYPE_CHECKING:
    from torch import Tensor

LIMIT_VARIABLE: Final = "OSSICLE_KEPT_CLIPS_MIB"
"""Environment variable: how many MiB a process may keep; 0 keeps nothing."""

_DEFAULT_LIMIT = 2**30
_MOST_OF_MEMORY = 8  # an eighth
_COARSEST_CLOCK_NS = 2 * 10**9


class Clip(NamedTuple):
    """What the data pipeline needs of a clip.

    Attributes:
        fbank: (T, F) float32, before normalisation; nobody writes into it
        samples: real samples of the waveform
    """

    fbank: Tensor
    samples: int


class KeptClips:
    """Clips by key, up to a number of bytes; several threads may use it.

    Args:
        limit: most bytes of spectrograms to keep

    Attributes:
        size: bytes of spectrograms that are kept
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._kept: OrderedDict[Hashable, tuple[Clip, int]] = OrderedDict()  # longest unused first
        self._streams = 0
        self._lock = threading.Lock()

    def begin(self) -> int:
        """Give the number of a new stream of clips."""
        with self._lock:
            self._streams += 1
            return self._streams

    def get(self, key: Hashable, stream: int) -> Clip | None:
        """Give what is kept under `key`, and note that `stream` has used it."""
        with self._lock:
            if key not in self._kept:
                return None
            clip, _ = self._kept[key]
            self._kept[key] = clip, stream
            self._kept.move_to_end(key)
            return clip

    def put(self, key: Hashable, clip: Clip, stream: int) -> None:
        """Keep a clip, unless all room is taken by others that `stream` or a later one has used."""
        needed = _bytes(clip)
        with self._lock:
            if key in self._kept or needed > self.limit:
                return
            while self.size + needed > self.limit:
                key_of_oldest, (oldest, last_stream) = next(iter(self._kept.items()))
                if last_stream >= stream:
                    return
                del self._kept[key_of_oldest]
                self.size -= _bytes(oldest)
            self._kept[key] = clip, stream
            self.size += needed


def _bytes(clip: Clip) -> int:
    return clip.fbank.untyped_storage().nbytes()


@cache
def kept_clips() -> KeptClips:
    """The one store of this process.

    Raises:
        OssicleError: if its environment variable holds no number
    """
    return KeptClips(_limit())


def _limit() -> int:
    stated = os.environ.get(LIMIT_VARIABLE)
    if not stated:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        processes = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        return min(_DEFAULT_LIMIT, memory // _MOST_OF_MEMORY) // processes
    if not stated.isdecimal():
        raise OssicleError(
            f"the environment variable {LIMIT_VARIABLE} is `{stated}`, but must be a whole number of MiB: set it to 0 "
            "to keep no clips in memory, or unset it"
        )
    return int(stated) * 2**20


def state_of(path: Path | str) -> Hashable | None:
    """What changes whenever a file does; None where there is no telling: it is missing, or was changed just now.

    A program can set back the time of modification, but not that of the inode's change.
    """
    try:
        found = os.stat(path)  # a million of `Path`s take longer than the disk
    except OSError:
        return None
    # A second change within one tick of the file system's clock would go unseen.
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _COARSEST_CLOCK_NS:
        return None
    return str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
