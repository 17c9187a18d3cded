"""Cut a recording of any length into overlapping windows without loading all of it.

Notable choices:

- Windows start on the front end's grid of time columns, so each column uses the same samples as in the whole recording.
- Two neighbouring windows each keep the half of their overlap that is nearer to their centre. Hence every column except
  the first and last ones has context on both sides.
- The last window has the full size, too: it starts earlier instead of being shorter.
- The end is found by reading up to it, because the length in the header may be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..core.errors import OssicleError
from ..core.interfaces import FrontEnd

WINDOW_SECONDS: Final = 30.0
"""Length of a window in seconds. A recording up to this length is a single window."""

OVERLAP_SECONDS: Final = 4.0
"""Overlap of neighbouring windows, in seconds."""

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A stretch of a recording.

    Attributes:
        waveform: (S,) at the front end's rate
        first: index of the window's first time column in the recording
        kept: columns to keep of this window, counted from its first. Each column of the recording is kept by exactly
            one window.
    """

    waveform: Waveform
    first: int
    kept: slice


class ColumnGrid:
    """The positions of a front end's time columns in a waveform.

    Attributes:
        step_seconds: distance from one column to the next
    """

    def __init__(self, front_end: FrontEnd) -> None:
        (start, end), (following, _) = front_end.column_times(2).tolist()
        self.step_seconds = float(following - start)
        self._column_seconds = float(end - start)
        self._rate = front_end.sample_rate

    def start(self, column: int) -> int:
        """Compute the first sample of a column."""
        return round(column * self.step_seconds * self._rate)

    def end(self, columns: int) -> int:
        """Compute the number of samples of that many consecutive columns."""
        return round(((columns - 1) * self.step_seconds + self._column_seconds) * self._rate)

    def columns_in(self, samples: int) -> int:
        """Compute the number of whole columns in that many samples, at least 1 because the front end pads."""
        steps = (samples / self._rate - self._column_seconds) / self.step_seconds
        return max(1, math.floor(steps + 1e-6) + 1)


def windows(
    stretches: Iterable[Waveform], front_end: FrontEnd, *, window_seconds: float, overlap_seconds: float
) -> Iterator[Window]:
    """Cut a recording, given as consecutive stretches, into windows. Stretches are read as windows need them.

    Args:
        stretches: (S,) each, at the front end's rate
        window_seconds: a recording up to this length is one window
        overlap_seconds: overlap of two windows, rounded up to an even number of columns

    Raises:
        OssicleError: if the overlap is negative or not smaller than the window
    """
    grid = ColumnGrid(front_end)
    size, overlap = _sizes(grid, window_seconds, overlap_seconds)
    held = _Held(stretches)
    first = kept_from = 0
    while True:
        held.read_until(math.inf if size is None else grid.end(first + size + 1))
        columns = grid.columns_in(held.end)
        if size is None or columns <= first + size:
            break
        kept_to = first + size - overlap // 2
        waveform = held.between(grid.start(first), grid.start(first) + grid.end(size))
        yield Window(waveform, first, slice(kept_from - first, kept_to - first))
        # The last window may start as early as one column after this one.
        held.drop_before(grid.start(first))
        kept_from, first = kept_to, first + size - overlap
    last = 0 if size is None else max(0, columns - size)
    yield Window(held.between(grid.start(last), held.end), last, slice(kept_from - last, columns - last))


def _sizes(grid: ColumnGrid, window_seconds: float, overlap_seconds: float) -> tuple[int | None, int]:
    """Compute the number of columns in a window (None for an infinite window) and in the overlap."""
    if not 0 <= overlap_seconds < window_seconds:
        raise OssicleError(
            f"`overlap_seconds` must be at least 0 and below `window_seconds`, but they are {overlap_seconds:g} and "
            f"{window_seconds:g}"
        )
    if math.isinf(window_seconds):
        return None, 0
    size, overlap = int(window_seconds / grid.step_seconds + 1e-6), math.ceil(overlap_seconds / grid.step_seconds)
    overlap += overlap % 2
    if overlap >= size:
        raise OssicleError(
            f"`window_seconds` {window_seconds:g} holds {size} time columns of {grid.step_seconds:g} s, and "
            f"`overlap_seconds` {overlap_seconds:g} takes {overlap} of them; set a longer window or a smaller overlap"
        )
    return size, overlap


class _Held:
    """The part of a recording that is in memory, addressed by sample numbers of the whole recording."""

    def __init__(self, stretches: Iterable[Waveform]) -> None:
        self._unread = iter(stretches)
        self._stretches: list[Waveform] = []
        self._start = 0
        self.end = 0

    def read_until(self, sample: float) -> None:
        while self.end < sample and (stretch := next(self._unread, None)) is not None:
            self._stretches.append(stretch)
            self.end += len(stretch)

    def drop_before(self, sample: int) -> None:
        while self._stretches and self._start + len(self._stretches[0]) <= sample:
            self._start += len(self._stretches.pop(0))

    def between(self, start: int, end: int) -> Waveform:
        joined = np.concatenate([np.empty(0, np.float32), *self._stretches])
        return joined[start - self._start : end - self._start]
