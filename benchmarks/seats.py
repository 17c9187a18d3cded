"""A separate process for each contender, which waits for its turn.

Notable choices:

- Each contender has its process, so that one cannot help or hinder another, and its memory can be measured.
- Other implementations run as their users run them. Ossicle's contenders keep freed memory, as the `ossicle` command
  does.
- Bare products run, and outputs are compared, in the main process.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

from ..core.errors import OssicleError
from ..plugins.launcher_interface import end_with_parent
from ..training.memory import keep_freed_memory
from ..training.memory_meter import MemoryMeter
from .protocol import Taken, count_flops, take
from .work import Contender, Precision

T = TypeVar("T")

THREADS: Final = 1
"""Number of torch's threads. One thread makes processor seconds comparable."""


@dataclass(frozen=True)
class Entry:
    """The result of a contender's first run.

    Attributes:
        about, precision, counted_as: as in `Contender`
        given: its output, before any training step
        flops: operations of one run
        warm_up: time of the first run
        memory: peak memory in bytes, including the contender itself
        difference: difference of its output from the reference's
    """

    about: str
    precision: Precision
    counted_as: str | None
    given: npt.NDArray[Any] | None
    flops: int
    warm_up: Taken
    memory: int
    difference: float | None = None


class Seat:
    """The process of one contender.

    Args:
        find: returns, in the process, the function that creates the contender. Memory of its imports is not counted.
        scratch: folder for its files. The caller deletes it.
        ours: whether it keeps freed memory, as all commands of Ossicle do
    """

    def __init__(self, find: Callable[[], Callable[[], Contender]], scratch: str, *, ours: bool) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=spawning, initializer=_initialise, initargs=(scratch, ours))
        self._find = find

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def enter(self) -> Entry:
        """Create the contender and run it once.

        Raises:
            OssicleError: if its process is killed
            Exception: any error of its creation
        """
        return self._call(_enter, self._find)

    def turn(self) -> Taken:
        """Run the contender again."""
        return self._call(_turn)

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return self._pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise OssicleError("its process was killed, probably because it ran out of memory") from error


_contenders: list[Contender] = []
"""The contender of this process, after `_enter`."""


def _initialise(scratch: str, ours: bool) -> None:
    end_with_parent()
    tempfile.tempdir = scratch
    torch.set_num_threads(THREADS)
    if ours:
        keep_freed_memory()


def _enter(find: Callable[[], Callable[[], Contender]]) -> Entry:
    # The first call imports modules. Its result is dropped, because it may hold weights.
    find()
    before = MemoryMeter()
    contender = find()()
    _contenders.append(contender)
    given = None if contender.given is None else _plain(contender.given())
    flops = 0

    def count() -> None:
        nonlocal flops
        flops = count_flops(contender.do)

    # A new meter resets the peak, so that the peak of the creation does not count.
    MemoryMeter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    warm_up = take(count)
    if contender.trains:
        # The peak of the second step is higher, because the moments of the optimiser exist from its start.
        contender.do()
    memory = before.grown()
    return Entry(contender.about, contender.precision, contender.counted_as, given, flops, warm_up, memory)


def _plain(given: Tensor) -> npt.NDArray[Any]:
    """Convert an output to an array that can be sent to another process."""
    plain: npt.NDArray[Any] = (given.float() if given.is_floating_point() else given).cpu().numpy()
    return plain


def _turn() -> Taken:
    return take(_contenders[0].do)
