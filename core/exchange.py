"""Replace a folder that other processes may be reading by a new one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def exchange(one: Path, other: Path) -> None:
    """Swap two folders of one file system. Open files stay readable.

    The swap is atomic on Linux's local file systems. Elsewhere, such as on NFS, `other` is missing for a moment.
    """
    # Python's `os` offers neither this call nor its constants: AT_FDCWD is -100, RENAME_EXCHANGE is 2.
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is not None and not renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2):
        return
    aside = one.with_name(f"{one.name}.aside")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)
