"""One cell of an ablation in the process of a launcher: an ordinary run whose output goes to a file."""

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
"""Characters per line of a log."""


def run_cell(experiment: str, out: str, store: str, log: str) -> dict[str, Any]:
    """Run a cell, as `ossicle run EXPERIMENT --out OUT --store STORE`.

    Args:
        log: the file to which the output of the run is appended

    Returns:
        `state` (waiting if the run was interrupted), `error` (None unless the run failed), and `seconds` of wall time.
    """
    started = time.monotonic()
    state, error = DONE, None
    with _logged(Path(log)) as console, _called_as(["ossicle", "run", experiment, "--out", out, "--store", store]):
        # Imported here, so that the log also records failing imports.
        from ..display import TerminalDisplay
        from ..experiment.run import run

        try:
            run(experiment, out=out, store=store, display=TerminalDisplay(console))
        except (Interrupted, KeyboardInterrupt):
            state = WAITING
        except OssicleError as user_error:
            state, error = FAILED, str(user_error)
            console.print(error, highlight=False, markup=False)
        except Exception as bug:
            state, error = FAILED, f"{type(bug).__name__}: {bug}"
            traceback.print_exc(file=console.file)
    return {"state": state, "error": error, "seconds": round(time.monotonic() - started, 1)}


@contextmanager
def _logged(path: Path) -> Iterator[Console]:
    """Append all output of this process to a file, including that of C libraries. Yield a console that writes there."""
    from rich.console import Console

    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    with path.open("a", buffering=1, encoding="utf-8") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            yield Console(file=file, width=WIDTH, force_terminal=False)
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for descriptor, before in zip((1, 2), saved, strict=True):
                os.dup2(before, descriptor)
                os.close(before)


@contextmanager
def _called_as(arguments: list[str]) -> Iterator[None]:
    """Set `sys.argv`, so that the record of the run names the command that repeats it."""
    before = sys.argv
    sys.argv = arguments
    try:
        yield
    finally:
        sys.argv = before
