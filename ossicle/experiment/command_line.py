"""The command line of the program."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def command_line() -> str:
    """Return the command that started this program, so that it can be repeated."""
    program = Path(sys.argv[0])
    started = program.name
    if program.parts[-2:] == ("ossicle", "__main__.py"):
        processes = os.environ.get("LOCAL_WORLD_SIZE", "1")
        started = f"{'python' if processes == '1' else f'torchrun --nproc-per-node {processes}'} -m ossicle"
    return " ".join([started, *sys.argv[1:]])
