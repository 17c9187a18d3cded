"""Cut a recording of any length into overlapping windows, none of which needs the whole of it.

Notable choices: windows begin on the front end's grid of time columns, so that each column is cut from the same samples
as in the whole recording; of what two windows share each keeps its inner half, so that every column but the first and
last ones is seen with context on both sides; the last window reaches back to its full size. The end is found by reading
on, since the length that a file states may be wrong.
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
"""A recording up to this length is taken whole, in seconds."""

OVERLAP_SECONDS: Final = 4.0
"""What neighbouring windows of a longer one share, in seconds."""

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """A stretch of a recording.

    Attributes:
        waveform: (S,) at the front end's rate
        first: which of the recording's time columns it begins with
        kept: the window's own columns, counted from its first, that no other window keeps
    """

    waveform: Waveform
    first: int
    kept: slice


class ColumnGrid:
    """Where a front end's time columns lie in a waveform.

    Attributes:
        step_seconds: from one column to the next
    """

    def __init__(self, front_end: FrontEnd) -> None:
        (start, end), (following, _) = front_end.column_times(2).tolist()
        self.step_seconds = float(following - start)
        self._column_seconds = float(end - start)
        self._rate = front_end.sample_rate

    def start(self, column: int) -> int:
        """The first sample of a column."""
        return round(column * self.step_seconds * self._rate)

    def end(self, columns: int) -> int:
        """How many samples so many columns take."""
        return round(((columns - 1) * self.step_seconds + self._column_seconds) * self._rate)

    def columns_in(self, samples: int) -> int:
        """How many whole columns so many samples give; the front end pads what is shorter to one."""
        steps = (samples / self._rate - self._column_seconds) / self.step_seconds
        return max(1, math.floor(steps + 1e-6) + 1)


def windows(
    stretches: Iterable[Waveform], front_end: FrontEnd, *, window_seconds: float, overlap_seconds: float
) -> Iterator[Window]:
    """Cut what consecutive stretches of a recording make into windows, as they come.

    Args:
        stretches: (S,) each, at the front end's rate
        window_seconds: a recording up to this length is one window
        overlap_seconds: what two windows share, rounded up to an even number of columns

    Raises:
        OssicleError: if the overlap is negative or no smaller than the window
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
        # The last window may reach back to just behind the start of this one.
        held.drop_before(grid.start(first))
        kept_from, first = kept_to, first + size - overlap
    last = 0 if size is None else max(0, columns - size)
    yield Window(held.between(grid.start(last), held.end), last, slice(kept_from - last, columns - last))


def _sizes(grid: ColumnGrid, window_seconds: float, overlap_seconds: float) -> tuple[int | None, int]:
    """Columns of a window, None where it has no end, and of the overlap."""
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
    """The part of a recording that is in memory, by the numbers of its samples."""

    def __init__(self, stretches: Iterable[Waveform]) -> None:
        self._coming = iter(stretches)
        self._stretches: list[Waveform] = []
        self._start = 0
        self.end = 0

    def read_until(self, sample: float) -> None:
        while self.end < sample and (stretch := next(self._coming, None)) is not None:
            self._stretches.append(stretch)
            self.end += len(stretch)

    def drop_before(self, sample: int) -> None:
        while self._stretches and self._start + len(self._stretches[0]) <= sample:
            self._start += len(self._stretches.pop(0))

    def between(self, start: int, end: int) -> Waveform:
        joined = np.concatenate([np.empty(0, np.float32), *self._stretches])
        return joined[start - self._start : end - self._start]
