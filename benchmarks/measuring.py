"""Measure a work in one case: all contenders in turns, with their outputs and memory.

Notable choices:

- The number of rounds depends on the time of a first try of all contenders. Small works are measured often, and large
  works do not take too long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import torch

from ..core.distributed import compute_device
from ..training.memory import keep_freed_memory
from .peers import find_peers
from .protocol import BareProducts, Spread, Taken, agreement, half_is_faster, interleave, ratio, shares, take
from .seats import THREADS, Entry, Seat
from .work import OURS, Case, Contender, Precision, Work
from .works import WORKS

FEWEST_ROUNDS, MOST_ROUNDS = 3, 25
NO_BF16: Final = "bare products are slower in bf16 than in fp32 on this processor"
_BARE: Final = "bare products, "
_FEWEST_PRODUCTS, _BARE_SHARE = 20_000_000_000, 0.05
"""Operations of bare products in a round: this number or this share of the largest contender's, whichever is larger."""


@dataclass(frozen=True)
class Measured:
    """The measurements of a contender.

    Attributes:
        about: description of the contender
        precision: precision of its products
        difference: difference of its output from the reference's; None without an output, or for the reference
        gigaflops: operations of one run in 10⁹; None where they cannot be counted
        cpu, wall: seconds of one run
        faster: factor by which it is faster than the baseline
        share: its share of the rate of bare products
        memory: peak memory in bytes
        failure: the reason why it was not timed. The measurements are then missing.
    """

    about: str = ""
    precision: str = "fp32"
    difference: float | None = None
    gigaflops: float | None = None
    cpu: Spread | None = None
    wall: Spread | None = None
    faster: Spread | None = None
    share: Spread | None = None
    memory: int | None = None
    failure: str = ""


@dataclass(frozen=True)
class Table:
    """The measurements of a work in one case.

    Attributes:
        name: name of the case
        audio_seconds: length of the processed audio
        baseline: the contender that the others are compared with
        rounds: number of timed runs of each contender
        rates: rate of bare products in 10⁹ operations per second, by precision
        contenders: measurements by contender
        remark: a note for readers of the figures
    """

    name: str
    audio_seconds: float
    baseline: str
    rounds: int
    rates: Mapping[str, float]
    contenders: Mapping[str, Measured]
    remark: str = ""


def prepare(case: Case, paths: Sequence[Path]) -> Work:
    """Prepare the work of a case with all contenders that are available."""
    module, _, function = WORKS[case.work].partition(":")
    work: Work = getattr(import_module(f".{module}", __package__), function)(case, find_peers(paths))
    return work


def measure(
    case: Case, paths: Sequence[Path], *, seconds: float, prepare: Callable[[Case, Sequence[Path]], Work] = prepare
) -> Table:
    """Measure a work in one case.

    Args:
        paths: folders of other implementations
        seconds: approximate time for all rounds
        prepare: creates the work, in this process and in the process of every contender

    Raises:
        OssicleError: if one of the paths is not a folder, or one of Ossicle's contenders is killed
    """
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with TemporaryDirectory() as scratch, ExitStack() as seats:
            work = prepare(case, paths)
            timed = [name for name in work.makers if half_is_faster() or not _is_half(name)]
            found = {name: partial(_maker, prepare, case, paths, name) for name in timed}
            seated = {name: Seat(find, scratch, ours=_is_ours(name)) for name, find in found.items()}
            return _measure(work, {name: seats.enter_context(seat) for name, seat in seated.items()}, seconds)
    finally:
        torch.set_num_threads(before)


def _maker(
    prepare: Callable[[Case, Sequence[Path]], Work], case: Case, paths: Sequence[Path], name: str
) -> Callable[[], Contender]:
    return prepare(case, paths).makers[name]


def _is_half(name: str) -> bool:
    return name.endswith("bf16")


def _is_ours(name: str) -> bool:
    return name.startswith(OURS)


def _measure(work: Work, seats: Mapping[str, Seat], seconds: float) -> Table:
    entries, failures = _enter(work, seats)
    bare = _bare_products(work, max(entry.flops for entry in entries.values()))
    turns: dict[str, Callable[[], Taken]] = {name: seats[name].turn for name in entries}
    turns |= {_BARE + precision: partial(take, products) for precision, products in bare.items()}
    once = sum(entry.warm_up.wall for entry in entries.values())
    rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, int(seconds / once)))
    if len(turns) > 1:
        taken = interleave(turns, rounds)
    else:
        # There is nothing to compare with, so the first try is the measurement.
        rounds, taken = 1, {name: [entry.warm_up] for name, entry in entries.items()}
    return Table(
        name=work.case.name,
        audio_seconds=work.audio_seconds,
        baseline=next(iter(entries)),
        rounds=rounds,
        rates={
            precision: median(products.flops / each.measure for each in taken[_BARE + precision]) / 1e9
            for precision, products in bare.items()
        },
        contenders={
            name: failures[name] if name in failures else _measured(name, entries, bare, taken) for name in work.makers
        },
        remark=work.remark,
    )


def _enter(work: Work, seats: Mapping[str, Seat]) -> tuple[dict[str, Entry], dict[str, Measured]]:
    """Run each contender once. Contenders that fail or whose output differs are left out."""
    tried: dict[str, Entry] = {}
    failures = {name: Measured(precision="bf16", failure=NO_BF16) for name in work.makers if name not in seats}
    for name, seat in seats.items():
        try:
            tried[name] = seat.enter()
        except Exception as error:
            if _is_ours(name):
                raise
            failures[name] = Measured(failure=f"cannot be made: {type(error).__name__}: {error}")
    expected = tried[work.reference].given
    entries: dict[str, Entry] = {}
    for name, entry in tried.items():
        found = None
        if entry.given is not None and expected is not None and name != work.reference:
            found = agreement(torch.from_numpy(expected), torch.from_numpy(entry.given), entry.precision)
        if found is not None and not found.holds:
            how = f"{found.difference:.1e}" if math.isfinite(found.difference) else "another shape"
            failures[name] = Measured(entry.about, entry.precision, failure=f"its output differs: {how}")
        else:
            entries[name] = replace(entry, difference=found.difference if found else None)
    return entries, failures


def _bare_products(work: Work, flops: int) -> dict[Precision, BareProducts]:
    """Create bare products in each measured precision.

    They take longer for larger works, because the rate of the machine varies with time.
    """
    if work.products is None:
        return {}
    precisions: list[Precision] = ["fp32", "bf16"] if half_is_faster() else ["fp32"]
    flops = max(_FEWEST_PRODUCTS, round(_BARE_SHARE * flops))
    return {name: BareProducts(work.products, name, compute_device(), flops=flops) for name in precisions}


def _measured(
    name: str,
    entries: Mapping[str, Entry],
    bare: Mapping[Precision, BareProducts],
    taken: Mapping[str, Sequence[Taken]],
) -> Measured:
    entry, precision = entries[name], entries[name].precision
    times = [each.measure for each in taken[name]]
    baseline = [each.measure for each in taken[next(iter(entries))]]
    flops = entries[entry.counted_as or name].flops
    share = None
    if flops and precision in bare:
        share = shares(flops, times, bare[precision], [each.measure for each in taken[_BARE + precision]])
    return Measured(
        about=entry.about,
        precision=precision,
        difference=entry.difference,
        gigaflops=flops / 1e9 if flops else None,
        cpu=Spread.of([each.cpu for each in taken[name]]),
        wall=Spread.of([each.wall for each in taken[name]]),
        faster=ratio(baseline, times),
        share=share,
        memory=entry.memory,
    )
