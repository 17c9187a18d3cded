"""The cache folder that all experiments on a machine share."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$OSSICLE_CACHE` if it is set, else `~/.cache/ossicle`."""
    stated = os.environ.get("OSSICLE_CACHE")
    return Path(stated).expanduser() if stated else Path.home() / ".cache" / "ossicle"
