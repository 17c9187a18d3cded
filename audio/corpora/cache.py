"""The folder for what is made once and used by every experiment on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$OSSICLE_CACHE`, else `~/.cache/ossicle`."""
    stated = os.environ.get("OSSICLE_CACHE")
    return Path(stated).expanduser() if stated else Path.home() / ".cache" / "ossicle"
