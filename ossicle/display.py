"""The terminal output of a run: a live progress bar in a terminal, plain lines elsewhere.

Notable choices:

- Messages are never parsed as rich markup, because names and paths may contain brackets.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_SECONDS = 20.0
"""Interval between printed lines without a live terminal, in seconds."""


class TerminalDisplay:
    """A `core.display.Display` on a rich console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._title = ""
        self._total: int | None = None
        self._figures = ""
        self._printed_at = time.monotonic()

    def note(self, message: str) -> None:
        self._title = message
        self._console.print(Text.assemble(("•", "bold"), " ", message))

    def warn(self, message: str) -> None:
        self._console.print(Text.assemble(("warning", "bold yellow"), " ", message))

    def start(self, task: str, total: int | None, completed: int = 0) -> None:
        self.finish()
        self._total, self._figures = total, ""
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task(task, total=total, completed=completed, figures="")
        self._progress.start()

    def advance(self, completed: int) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=completed)
        elif time.monotonic() - self._printed_at > PLAIN_SECONDS:
            self._printed_at = time.monotonic()
            total = "" if self._total is None else f" of {self._total}"
            self._console.print(Text(f"  {completed}{total}  {self._figures}"))

    def metrics(self, values: Mapping[str, float]) -> None:
        self._figures = _figures(values)
        if self._progress is not None:
            self._progress.update(self._task, figures=self._figures)

    def finish(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _figures(values: Mapping[str, float]) -> str:
    """Format the metrics to watch: loss, accuracies, and seconds of audio per second."""
    shown = [f"loss {values['loss']:.3f}"] if "loss" in values else []
    shown += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in values.items() if name.endswith("accuracy")]
    if "audio_seconds_per_second" in values:
        shown.append(f"{values['audio_seconds_per_second']:.0f} audio-s/s")
    return "  ".join(shown)
