"""The command line: `entry.py` runs commands, and every other module holds a group of them.

A group has a function `add_commands(add)`, listed in `entry.GROUPS`, which adds its commands with their options. To add
a command, add it there. A command is a function from the parsed options to an exit code; it imports what it needs, so
that `ossicle --help` loads only this package.
"""

from __future__ import annotations

from .entry import main

__all__ = ["main"]
