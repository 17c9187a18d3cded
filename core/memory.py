"""How this process holds memory, and how much it has needed.

Notable choices: glibc hands large tensors back to the kernel as soon as they are freed, and takes the next ones anew
page by page, which costs more than the smaller computations on them; a process that computes keeps them instead.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Final

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""`M_TRIM_THRESHOLD` and `M_MMAP_THRESHOLD` of glibc's malloc.h."""
_NEVER: Final = 2**30
_OLD_LIMIT: Final = 2**25
"""The highest threshold for mapping that older versions of glibc accept."""


def keep_freed_memory() -> None:
    """Let this process use freed memory again, instead of giving it back at once.

    Nothing happens where the environment tunes malloc (`MALLOC_…`, `GLIBC_TUNABLES`), or under another C library.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    tuned = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    # Once its trim threshold is set, glibc no longer raises the other one as it learns: it is set first, or neither is.
    if set_option is not None and not tuned and any(set_option(_MMAP_THRESHOLD, most) for most in (_NEVER, _OLD_LIMIT)):
        set_option(_TRIM_THRESHOLD, _NEVER)


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

        from .distributed import compute_device

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
