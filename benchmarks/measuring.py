"""A work measured in one case: whoever can do it, in turns, with what each is and needs.

Notable choices: the number of rounds follows from what it takes to try all contenders, so that small works are measured
often and large ones in bearable time.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor

from ..core.distributed import compute_device
from ..core.memory import give_back_freed_memory, keep_freed_memory
from .peers import find_peers
from .protocol import (
    BareProducts,
    Spread,
    Taken,
    agreement,
    alone,
    count_flops,
    half_is_faster,
    interleave,
    peak_memory,
    ratio,
    shares,
    take,
)
from .work import OURS, Case, Contender, Precision, Work
from .works import WORKS

THREADS: Final = 1
"""Of torch, so that processor seconds are comparable."""
FEWEST_ROUNDS, MOST_ROUNDS = 3, 25
NO_BF16: Final = "bare products are slower in bf16 than in fp32 on this processor"
_BARE: Final = "bare products, "
_FEWEST_PRODUCTS, _BARE_SHARE = 20_000_000_000, 0.05
"""Operations of bare products in a round: this many, or this share of a contender's."""


@dataclass(frozen=True)
class Measured:
    """What was measured of a contender.

    Attributes:
        about: what exactly it consists of
        precision: of its products
        difference: of its output from the reference's; None where there is none, or it is the reference
        flops: of one time, in 10⁹; None where they cannot be counted
        cpu, wall: seconds of one time
        faster: than the baseline
        share: of the rate of bare products
        memory: bytes it needs at most
        failure: why it was not timed; nothing else is known then
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
    """A work in one case, as measured.

    Attributes:
        name: of the case
        audio_seconds: that it deals with
        baseline: the contender that the others are compared with
        rounds: how often each did it
        rates: of bare products in 10⁹ operations a second, by precision
        contenders: by name
        remark: what a reader must know
    """

    name: str
    audio_seconds: float
    baseline: str
    rounds: int
    rates: Mapping[str, float]
    contenders: Mapping[str, Measured]
    remark: str = ""


def prepare(case: Case, paths: Sequence[Path]) -> Work:
    """The work of a case, with whoever can do it."""
    module, _, function = WORKS[case.work].partition(":")
    work: Work = getattr(import_module(f".{module}", __package__), function)(case, find_peers(paths))
    return work


def measure(case: Case, paths: Sequence[Path], *, seconds: float, weigh: bool) -> Table:
    """Measure a work in one case.

    Args:
        paths: where other implementations lie
        seconds: that its rounds may take, about
        weigh: whether to measure memory as well

    Raises:
        OssicleError: if one of the paths is no folder
    """
    # As in a run; of peers too, to their advantage.
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        table = _measure(prepare(case, paths), seconds)
    finally:
        torch.set_num_threads(before)
    return _with_memory(table, case, paths) if weigh else table


def _with_memory(table: Table, case: Case, paths: Sequence[Path]) -> Table:
    # What was measured is gone, and the processes to come need the room.
    gc.collect()
    give_back_freed_memory()
    contenders = {
        name: replace(measured, memory=alone(weighed, case, paths, name)) if measured.cpu else measured
        for name, measured in table.contenders.items()
    }
    return replace(table, contenders=contenders)


def weighed(case: Case, paths: Sequence[Path], name: str) -> int:
    """Peak memory of a contender, for a process that has done nothing else."""
    torch.set_num_threads(THREADS)
    if name.startswith(OURS):
        keep_freed_memory()
    # A second step finds the optimiser's moments in place.
    return peak_memory(prepare(case, paths).makers[name], times=2)


def _measure(work: Work, seconds: float) -> Table:
    entries, failures = _enter(work)
    bare = _bare_products(work, max(entry.flops for entry in entries.values()))
    turns: dict[str, Callable[[], object]] = {name: entry.contender.do for name, entry in entries.items()}
    turns |= {_BARE + precision: products for precision, products in bare.items()}
    once = sum(entry.warm_up.wall for entry in entries.values())
    rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, int(seconds / once)))
    if len(turns) > 1:
        taken = interleave(turns, rounds)
    else:
        # Nothing to compare with: what it took to try it is what is known.
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


@dataclass(frozen=True)
class _Entry:
    """A contender that agrees with the reference."""

    contender: Contender
    flops: int
    warm_up: Taken
    difference: float | None


def _enter(work: Work) -> tuple[dict[str, _Entry], dict[str, Measured]]:
    """Make the contenders and have each do its work once; those that fail or disagree are left out."""
    tried: dict[str, tuple[Contender, Tensor | None, int, Taken]] = {}
    failures: dict[str, Measured] = {}
    for name, make in work.makers.items():
        try:
            contender = make()
            if contender.precision == "fp32" or half_is_faster():
                tried[name] = _try(contender)
            else:
                failures[name] = Measured(contender.about, contender.precision, failure=NO_BF16)
        except Exception as error:
            if name.startswith(OURS):
                raise
            failures[name] = Measured(failure=f"cannot be made: {type(error).__name__}: {error}")
    wanted = tried[work.reference][1]
    entries: dict[str, _Entry] = {}
    for name, (contender, given, flops, warm_up) in tried.items():
        found = None
        if given is not None and wanted is not None and name != work.reference:
            found = agreement(wanted, given, contender.precision)
        if found is not None and not found.holds:
            far = f"{found.difference:.1e}" if math.isfinite(found.difference) else "another shape"
            failures[name] = Measured(contender.about, contender.precision, failure=f"its output differs: {far}")
        else:
            entries[name] = _Entry(contender, flops, warm_up, found.difference if found else None)
    return entries, failures


def _try(contender: Contender) -> tuple[Contender, Tensor | None, int, Taken]:
    """Take what a contender gives, before it has trained anything, and count what it does."""
    does_give = contender.given is contender.do
    given = None if contender.given is None or does_give else contender.given()
    done: list[Any] = []
    flops = 0

    def count() -> None:
        nonlocal flops
        flops = count_flops(lambda: done.append(contender.do()))

    warm_up = take(count)
    return contender, done[0] if does_give else given, flops, warm_up


def _bare_products(work: Work, flops: int) -> dict[Precision, BareProducts]:
    """In each precision that is measured; the more a work does, the longer they take, for a rate varies with time."""
    if work.products is None:
        return {}
    precisions: list[Precision] = ["fp32", "bf16"] if half_is_faster() else ["fp32"]
    flops = max(_FEWEST_PRODUCTS, round(_BARE_SHARE * flops))
    return {name: BareProducts(work.products, name, compute_device(), flops=flops) for name in precisions}


def _measured(
    name: str,
    entries: Mapping[str, _Entry],
    bare: Mapping[Precision, BareProducts],
    taken: Mapping[str, Sequence[Taken]],
) -> Measured:
    entry, precision = entries[name], entries[name].contender.precision
    times = [each.measure for each in taken[name]]
    baseline = [each.measure for each in taken[next(iter(entries))]]
    flops = entries[entry.contender.counted_as or name].flops
    share = None
    if flops and precision in bare:
        share = shares(flops, times, bare[precision], [each.measure for each in taken[_BARE + precision]])
    return Measured(
        about=entry.contender.about,
        precision=precision,
        difference=entry.difference,
        gigaflops=flops / 1e9 if flops else None,
        cpu=Spread.of([each.cpu for each in taken[name]]),
        wall=Spread.of([each.wall for each in taken[name]]),
        faster=ratio(baseline, times),
        share=share,
    )
