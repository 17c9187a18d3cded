"""The program `ossicle`, also as `python -m ossicle`."""

from __future__ import annotations

import gc
import sys

from .cli import main

BRIEF = {"check", "explain", "plugins", "schema"}
"""Commands that end within a second. Most of their objects live until the end, so garbage collection frees nothing, but
takes a tenth of their time."""


def start() -> int:
    """Run the command of the command line and return its exit code."""
    is_brief = sys.argv[1:2] and sys.argv[1] in BRIEF
    if is_brief:
        gc.disable()
    code = main()
    if is_brief:
        gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(start())
