"""How this process holds memory.

Notable choices: glibc hands large tensors back to the kernel as soon as they are freed, and takes the next ones anew
page by page, which costs more than the smaller computations on them; a process that computes keeps them instead.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

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
