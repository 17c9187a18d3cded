"""A cache in memory of the spectrograms of whole clips, shared by all stages of a process.

Small corpora are decoded once. Notable choices:

- The key of a clip contains the state of its file, which is read at each access, so that a changed file is read again.
- A full cache refuses a clip rather than dropping one of the same stream. Dropping the least recently used clip would
  drop each clip just before its next epoch. Clips that only earlier streams have used are dropped.
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

LIMIT_VARIABLE: Final = "OSSICLE_CLIP_CACHE_MIB"
"""Environment variable: the size of the cache in MiB; 0 turns it off."""

_DEFAULT_LIMIT = 2**30
_MOST_OF_MEMORY = 8  # an eighth
_COARSEST_CLOCK_NS = 2 * 10**9


class Clip(NamedTuple):
    """What the data pipeline needs of a clip.

    Attributes:
        fbank: (T, F) float32, before normalisation; read-only by convention
        samples: real samples of the waveform
    """

    fbank: Tensor
    samples: int


class ClipCache:
    """Clips by key, up to a number of bytes. Thread-safe.

    Args:
        limit: largest number of bytes of spectrograms

    Attributes:
        size: bytes of spectrograms in the cache
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._clips: OrderedDict[Hashable, tuple[Clip, int]] = OrderedDict()  # least recently used first
        self._streams = 0
        self._lock = threading.Lock()

    def begin(self) -> int:
        """Return the number of a new stream of clips."""
        with self._lock:
            self._streams += 1
            return self._streams

    def get(self, key: Hashable, stream: int) -> Clip | None:
        """Return the clip with this key, if it is cached, and record that `stream` has used it."""
        with self._lock:
            if key not in self._clips:
                return None
            clip, _ = self._clips[key]
            self._clips[key] = clip, stream
            self._clips.move_to_end(key)
            return clip

    def put(self, key: Hashable, clip: Clip, stream: int) -> None:
        """Cache a clip, unless the cache is full of clips that `stream` or a later one has used."""
        needed = _bytes(clip)
        with self._lock:
            if key in self._clips or needed > self.limit:
                return
            while self.size + needed > self.limit:
                key_of_oldest, (oldest, last_stream) = next(iter(self._clips.items()))
                if last_stream >= stream:
                    return
                del self._clips[key_of_oldest]
                self.size -= _bytes(oldest)
            self._clips[key] = clip, stream
            self.size += needed


def _bytes(clip: Clip) -> int:
    return clip.fbank.untyped_storage().nbytes()


@cache
def clip_cache() -> ClipCache:
    """The cache of this process.

    Raises:
        OssicleError: if its environment variable is not a number
    """
    return ClipCache(_limit())


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
    """A value that changes whenever a file does; None if that is unknown: the file is missing or was just changed.

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
