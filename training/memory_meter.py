"""How much memory this process has needed."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def give_back_freed_memory() -> None:
    """Hand what is kept for later use to the kernel; only glibc can be told to."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryMeter:
    """How much more memory this process has needed at most since the meter was made, in bytes.

    Of an accelerator's memory, where it computes on one; else resident memory. Where the system is not Linux, growth up
    to the most that the process had needed before goes unseen.
    """

    def __init__(self) -> None:
        if _RESET.exists():
            # What malloc keeps would hide what is needed next.
            give_back_freed_memory()
            _RESET.write_text("5")
        self._before = _most_resident()

    def grown(self) -> int:
        """By how much the need has grown at most."""
        import torch

        from ..core.distributed import compute_device

        if compute_device().type == "cuda":
            return torch.cuda.max_memory_allocated()
        return _most_resident() - self._before


def _most_resident() -> int:
    if not _RESET.exists():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    # What `getrusage` gives cannot be reset.
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])
