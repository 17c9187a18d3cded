"""A process of its own for each contender, which waits for its turn.

Notable choices: others run as their users have them, ours as `ossicle` does, which keeps freed memory; what one holds
or sets up cannot help or hinder another; and its memory is its own. Bare products and judging stay with whoever asks.
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
"""Of torch, so that processor seconds are comparable."""


@dataclass(frozen=True)
class Entry:
    """A contender that has done its work once.

    Attributes:
        about, precision, counted_as: as in `Contender`
        given: what it gave, before it trained anything
        flops: operations of one time
        warm_up: what the first time took
        memory: bytes that it needs at most, with what it holds
        difference: of what it gave from the reference's
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
        find: gives there what makes it; what that imports is no memory of the contender's
        scratch: folder for its files; whoever made that deletes it
        ours: whether it keeps freed memory, as all that Ossicle runs does
    """

    def __init__(self, find: Callable[[], Callable[[], Contender]], scratch: str, *, ours: bool) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=spawning, initializer=_sit_down, initargs=(scratch, ours))
        self._find = find

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def enter(self) -> Entry:
        """Make the contender and have it do its work.

        Raises:
            OssicleError: if its process is killed
            Exception: whatever making it raises
        """
        return self._ask(_enter, self._find)

    def turn(self) -> Taken:
        """Have it do its work once more."""
        return self._ask(_turn)

    def _ask(self, what: Callable[..., T], *arguments: object) -> T:
        try:
            return self._pool.submit(what, *arguments).result()
        except BrokenProcessPool as error:
            raise OssicleError("its process was killed, as for want of memory") from error


_seated: list[Contender] = []
"""In a contender's process, itself."""


def _sit_down(scratch: str, ours: bool) -> None:
    end_with_parent()
    tempfile.tempdir = scratch
    torch.set_num_threads(THREADS)
    if ours:
        keep_freed_memory()


def _enter(find: Callable[[], Callable[[], Contender]]) -> Entry:
    # For what that imports; and what makes a contender may hold the weights that it has handed on.
    find()
    before = MemoryMeter()
    contender = find()()
    _seated.append(contender)
    given = None if contender.given is None else _plain(contender.given())
    flops = 0

    def count() -> None:
        nonlocal flops
        flops = count_flops(contender.do)

    # What making it took at most is forgotten.
    MemoryMeter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    warm_up = take(count)
    if contender.trains:
        # A second step finds the optimiser's moments in place.
        contender.do()
    memory = before.grown()
    return Entry(contender.about, contender.precision, contender.counted_as, given, flops, warm_up, memory)


def _plain(given: Tensor) -> npt.NDArray[Any]:
    """For the way between processes."""
    plain: npt.NDArray[Any] = (given.float() if given.is_floating_point() else given).cpu().numpy()
    return plain


def _turn() -> Taken:
    return take(_seated[0].do)
