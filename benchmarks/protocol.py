"""How contenders are timed and held against each other.

Notable choices: contenders take turns, so that whatever disturbs the machine disturbs them alike, and a ratio is taken
within a round; processor seconds count on a CPU, and seconds on the clock on a GPU. The rate of bare matrix products is
measured in the same rounds.
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
"""Of fp32 outputs, as a share of their norm; of labels, the share that differs."""
LOWEST_COSINE: Final = 0.999
"""Between a clip's bf16 and fp32 vectors."""

_MOST_PAIRS: Final = 200


@dataclass(frozen=True)
class Taken:
    """What a work took once: processor seconds of all threads and processes, and seconds on the clock."""

    cpu: float
    wall: float

    @property
    def measure(self) -> float:
        """What counts on this device."""
        return self.wall if compute_device().type == "cuda" else self.cpu


@dataclass(frozen=True)
class Spread:
    """The median over rounds, and the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


def take(action: Callable[[], object]) -> Taken:
    """Time an action; what it left to an accelerator counts."""
    cpu, wall = _cpu_seconds(), time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Taken(_cpu_seconds() - cpu, time.perf_counter() - wall)


def _cpu_seconds() -> float:
    """Of this process's threads, and of processes that it has waited for."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def interleave(turns: Mapping[str, Callable[[], Taken]], rounds: int) -> dict[str, list[Taken]]:
    """Let contenders take turns: A B C A B C …"""
    taken: dict[str, list[Taken]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            taken[name].append(turn())
    return taken


def ratio(baseline: Sequence[float], other: Sequence[float]) -> Spread:
    """How many times faster the other is: of each round by itself."""
    return Spread.of([one / two for one, two in zip(baseline, other, strict=True)])


class BareProducts:
    """The matrix products of a work and nothing else, as the measure of what the machine can do.

    Args:
        flops: operations that a turn is to have, about

    Attributes:
        flops: operations of a turn
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
    """Whether products are quicker in bf16 than in fp32 here: a processor without instructions for it is far slower."""
    products = Products(512, 768, 3072)
    turns = {
        precision: partial(take, BareProducts(products, precision, compute_device(), flops=1))
        for precision in get_args(Precision)
    }
    taken = interleave(turns, 2)
    return taken["bf16"][1].measure < taken["fp32"][1].measure


def shares(flops: int, taken: Sequence[float], bare: BareProducts, bare_taken: Sequence[float]) -> Spread:
    """The share of the machine's rate of bare products that a work reaches, of each round by itself."""
    rates = [bare.flops / seconds for seconds in bare_taken]
    return Spread.of([flops / seconds / rate for seconds, rate in zip(taken, rates, strict=True)])


def count_flops(action: Callable[[], object]) -> int:
    """Operations of an action's matrix products, convolutions and attention; a Fourier transform's are not counted."""
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
    """How far what a contender gives lies from what the reference gives, and whether that is near enough."""

    difference: float
    holds: bool


def agreement(reference: Tensor, given: Tensor, precision: Precision) -> Agreement:
    """Hold a contender's output against the reference's.

    In fp32 vectors may differ by a thousandth of their norm, and one label in a thousand; in bf16 each vector must keep
    its direction, and labels are only counted.
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
    """Autocast, as the engine has it, or nothing."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(compute_device().type, torch.bfloat16)
