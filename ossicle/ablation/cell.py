"""One cell of an ablation, as a launcher's process runs it: an ordinary run whose output goes to a file."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import Interrupted, OssicleError
from .record import DONE, FAILED, WAITING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Of the lines of a log."""


def run_cell(experiment: str, out: str, store: str, log: str) -> dict[str, Any]:
    """Run a cell, as `ossicle run EXPERIMENT --out OUT --store STORE`.

    Args:
        log: the file that takes what the run prints

    Returns:
        `state` (waiting, if it was asked to stop), `error` if it failed, and the `seconds` it took.
    """
    started = time.monotonic()
    state, error = DONE, None
    with _logged(Path(log)) as console, _called_as(["ossicle", "run", experiment, "--out", out, "--store", store]):
        # Here, and not above: the log is to tell of failing imports, too.
        from ..display import TerminalDisplay
        from ..experiment.run import run

        try:
            run(experiment, out=out, store=store, display=TerminalDisplay(console))
        except (Interrupted, KeyboardInterrupt):
            state = WAITING
        except OssicleError as mendable:
            state, error = FAILED, str(mendable)
            console.print(error, highlight=False, markup=False)
        except Exception as bug:
            state, error = FAILED, f"{type(bug).__name__}: {bug}"
            traceback.print_exc(file=console.file)
    return {"state": state, "error": error, "seconds": round(time.monotonic() - started, 1)}


@contextmanager
def _logged(path: Path) -> Iterator[Console]:
    """Send what this process prints, by whatever library, to the end of a file; gives a console that writes there."""
    from rich.console import Console

    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with path.open("a", buffering=1, encoding="utf-8") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            yield Console(file=file, width=WIDTH, force_terminal=False)
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for descriptor, before in zip((1, 2), kept, strict=True):
                os.dup2(before, descriptor)
                os.close(before)


@contextmanager
def _called_as(arguments: list[str]) -> Iterator[None]:
    """Let the run's record name the command that repeats it."""
    before = sys.argv
    sys.argv = arguments
    try:
        yield
    finally:
        sys.argv = before
