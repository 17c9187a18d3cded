"""Settings of malloc for this process.

Notable choices:

- Freed memory is kept for the next tensors. By default glibc returns large blocks to the kernel, and mapping the pages
  of the next ones costs more than small computations on them.
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
    """Keep freed memory in this process instead of returning it to the kernel at once.

    Does nothing if the environment tunes malloc (`MALLOC_…`, `GLIBC_TUNABLES`), or with another C library.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    tuned = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    # Setting the trim threshold stops glibc from adapting the mapping threshold, so the latter is set first.
    if set_option is not None and not tuned and any(set_option(_MMAP_THRESHOLD, most) for most in (_NEVER, _OLD_LIMIT)):
        set_option(_TRIM_THRESHOLD, _NEVER)
