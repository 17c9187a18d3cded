"""Time contenders and compare their outputs.

Notable choices:

- Contenders take turns and ratios are computed within a round, so other load on the machine affects all of them alike.
- The measure is processor seconds on a CPU, and wall-clock seconds on a GPU.
- The rate of bare matrix products is measured in the same rounds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from statistics import median
from typing import Any, Final, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ..core.distributed import compute_device
from .work import Precision, Products

LARGEST_DIFFERENCE: Final = 1e-3
"""Largest difference of fp32 vectors as a share of their norm, and largest share of different tokens."""
LOWEST_COSINE: Final = 0.999
"""Lowest mean cosine between bf16 and fp32 vectors."""

_MOST_PAIRS: Final = 200


@dataclass(frozen=True)
class Taken:
    """The time of one run: processor seconds of all threads and processes, and wall-clock seconds."""

    cpu: float
    wall: float

    @property
    def measure(self) -> float:
        """The seconds that count on this device: wall-clock on a GPU, processor on a CPU."""
        return self.wall if compute_device().type == "cuda" else self.cpu


@dataclass(frozen=True)
class Spread:
    """The median, lowest and highest value over the rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


def take(action: Callable[[], object]) -> Taken:
    """Time an action, including its pending work on a GPU."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Taken(_cpu_seconds() - cpu, time.perf_counter() - wall)


def _cpu_seconds() -> float:
    """Sum the processor seconds of this process's threads and of finished child processes."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def interleave(turns: Mapping[str, Callable[[], Taken]], rounds: int) -> dict[str, list[Taken]]:
    """Run contenders in turns: A B C A B C …"""
    taken: dict[str, list[Taken]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            taken[name].append(turn())
    return taken


def ratio(baseline: Sequence[float], other: Sequence[float]) -> Spread:
    """Compute for each round by which factor the other is faster."""
    return Spread.of([one / two for one, two in zip(baseline, other, strict=True)])


class BareProducts:
    """Only the matrix products of a work, to measure the rate that the machine can reach.

    Args:
        flops: approximate number of operations per turn

    Attributes:
        flops: number of operations per turn
    """

    def __init__(self, products: Products, precision: Precision, device: torch.device, *, flops: int) -> None:
        rows, width, hidden = products.rows, products.width, products.hidden
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._vectors = torch.randn(rows, width, device=device, dtype=dtype)
        self._expand = torch.randn(hidden, width, device=device, dtype=dtype) * width**-0.5
        self._contract = torch.randn(width, hidden, device=device, dtype=dtype) * hidden**-0.5
        pair = 4 * rows * width * hidden
        self._pairs = min(_MOST_PAIRS, math.ceil(flops / pair))
        self.flops = self._pairs * pair

    @torch.no_grad()
    def __call__(self) -> None:
        for _ in range(self._pairs):
            F.linear(F.linear(self._vectors, self._expand), self._contract)


@cache
def half_is_faster() -> bool:
    """Measure whether products are faster in bf16 than in fp32. Processors without bf16 arithmetic are far slower."""
    products = Products(512, 768, 3072)
    turns = {
        precision: partial(take, BareProducts(products, precision, compute_device(), flops=1))
        for precision in get_args(Precision)
    }
    taken = interleave(turns, 2)
    return taken["bf16"][1].measure < taken["fp32"][1].measure


def shares(flops: int, taken: Sequence[float], bare: BareProducts, bare_taken: Sequence[float]) -> Spread:
    """Compute for each round the share of the rate of bare products that a work reaches."""
    rates = [bare.flops / seconds for seconds in bare_taken]
    return Spread.of([flops / seconds / rate for seconds, rate in zip(taken, rates, strict=True)])


def count_flops(action: Callable[[], object]) -> int:
    """Count the operations of matrix products, convolutions and attention. Fourier transforms are not counted."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        action()
    total: int = counter.get_total_flops()
    return total


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return flops


def _attention_backward(
    gradient: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    flops: int = sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]
    return flops


_CPU_ATTENTION: Final = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


@dataclass(frozen=True)
class Agreement:
    """The difference of a contender's output from the reference, and whether it is small enough."""

    difference: float
    holds: bool


def agreement(reference: Tensor, given: Tensor, precision: Precision) -> Agreement:
    """Compare a contender's output with the reference.

    In fp32, vectors may differ by a thousandth of their norm, and one token in a thousand may differ. In bf16, the mean
    cosine of the vectors must be at least `LOWEST_COSINE`, and tokens may differ.
    """
    if reference.shape != given.shape:
        return Agreement(math.inf, False)
    if not reference.is_floating_point():
        difference = (reference != given).float().mean().item()
        return Agreement(difference, precision == "bf16" or difference <= LARGEST_DIFFERENCE)
    reference, given = reference.double(), given.double()
    difference = ((reference - given).norm() / reference.norm()).item()
    if precision == "bf16":
        cosine = F.cosine_similarity(reference, given, dim=-1).mean().item()
        return Agreement(difference, cosine >= LOWEST_COSINE)
    return Agreement(difference, difference <= LARGEST_DIFFERENCE)


def computing_in(precision: Precision) -> AbstractContextManager[Any]:
    """Return the autocast context of the engine for bf16, or an empty context for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(compute_device().type, torch.bfloat16)
