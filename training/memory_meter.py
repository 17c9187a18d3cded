"""Measure the memory that this process needs."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def give_back_freed_memory() -> None:
    """Return free memory to the kernel. Only glibc supports this."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryMeter:
    """The peak growth of memory since the meter was created, in bytes.

    It measures the memory of the accelerator if there is one, else resident memory. On systems other than Linux, growth
    below an earlier peak of the process is not seen.
    """

    def __init__(self) -> None:
        if _RESET.exists():
            # Memory that malloc keeps would hide later growth.
            give_back_freed_memory()
            _RESET.write_text("5")
        self._before = _most_resident()

    def grown(self) -> int:
        """Return the peak growth."""
        import torch

        from ..core.distributed import compute_device

        if compute_device().type == "cuda":
            return torch.cuda.max_memory_allocated()
        return _most_resident() - self._before


def _most_resident() -> int:
    if not _RESET.exists():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    # The peak of `getrusage` cannot be reset.
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
