"""The entry point: parse the command line, run a command, and turn errors into messages and exit codes.

| exit code | |
|---|---|
| 0 | done |
| 1 | cells of an ablation failed |
| 2 | a problem that the user can fix, reported in one line |
| 130 | stopped on request |
| 141 | the reader of the output, such as `head`, has closed it |
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
from collections.abc import Sequence
from typing import TextIO

from .. import __version__
from ..core.errors import Interrupted, OssicleError, StoppedElsewhere
from ..experiment.full_disk import naming_full_disk
from . import ablation, bench, experiment, inference, plugins, tokens
from .options import Command

GROUPS = (experiment, ablation, inference, tokens, plugins, bench)
USER_ERROR, STOPPED, UNREAD = 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parse(arguments)
    # Without it, pydantic looks for its own plugins in all installed packages.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    try:
        with naming_full_disk(getattr(options, "out", None)):
            code: int = options.command(options)
            sys.stdout.flush()
    except Interrupted as stop:
        print(f"{stop}. To continue, run the same command again.", file=sys.stderr)
        return STOPPED
    except StoppedElsewhere:
        # torchrun kills all processes as soon as one fails, and the one with the message must be the first.
        return 0
    except OssicleError as error:
        print(error, file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        if _is_read(sys.stdout):
            raise
        # Without it, Python flushes standard output at exit and reports an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except OSError as error:
        # An error without a file name is a bug rather than a user's mistake.
        if error.filename is None:
            raise
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("stopped; finished stages are kept. To continue, run the same command again.", file=sys.stderr)
        return STOPPED
    return code


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line. On errors argparse prints the usage and exits with code 2."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse accepts no positional arguments after an option if there were some before it.
    if rest and not (hasattr(options, "overrides") and all("=" in text and text[0] != "-" for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ossicle", description="Self-supervised learning on audio.")
    parser.add_argument("--version", action="version", version=f"ossicle {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, help: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=command.__doc__)
        added.set_defaults(command=command)
        return added

    for group in GROUPS:
        group.add_commands(add)
    return parser


def _is_read(stream: TextIO) -> bool:
    """Whether the reader of a pipe still has it open."""
    poll = select.poll()
    # POLLERR is always reported, also with an empty mask.
    poll.register(stream, 0)
    return not any(events & select.POLLERR for _, events in poll.poll(0))
