"""How the most memory that a process needed is measured."""

from __future__ import annotations

import torch

from ossicle.training.memory_meter import MemoryMeter


def test_the_memory_meter_sees_the_most_that_was_needed_since() -> None:
    size = 64 * 2**20
    torch.ones(2 * size, dtype=torch.uint8)
    meter = MemoryMeter()
    torch.ones(size, dtype=torch.uint8)
    assert 0.9 * size < meter.grown() < 1.5 * size
