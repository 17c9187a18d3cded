"""The memory meter measures the peak of a process."""

from __future__ import annotations

import torch

from ossicle.training.memory_meter import MemoryMeter


def test_the_memory_meter_measures_the_peak_since_its_creation() -> None:
    size = 64 * 2**20
    torch.ones(2 * size, dtype=torch.uint8)
    meter = MemoryMeter()
    torch.ones(size, dtype=torch.uint8)
    assert 0.9 * size < meter.grown() < 1.5 * size
