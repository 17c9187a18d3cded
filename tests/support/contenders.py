"""A contender that needs memory, in a module that a new process imports in little time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ossicle.benchmarks.work import Contender

NEEDED = 2**28
"""Bytes that a run of the contender needs."""

imported: list[Tensor] = []


def importing() -> Callable[[], Contender]:
    """Need more memory for the imports, and for making the contender, than for a run."""
    if not imported:
        imported.append(torch.ones(2 * NEEDED, dtype=torch.uint8))
    captured: list[Tensor] = []

    def make() -> Contender:
        captured.append(torch.ones(NEEDED, dtype=torch.uint8))
        return filling_memory()

    return make


def filling_memory() -> Contender:
    """Create a contender whose runs fill memory."""
    torch.zeros(4 * NEEDED, dtype=torch.uint8)
    return Contender(lambda: torch.ones(NEEDED, dtype=torch.uint8), "fills memory")
