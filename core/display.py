"""The interface through which a run reports its progress. The command line decides how to show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Display(Protocol):
    """Receives the progress of a run."""

    def note(self, message: str) -> None:
        """Show a message."""

    def warn(self, message: str) -> None:
        """Show a message that needs the user's attention."""

    def start(self, task: str, total: int | None, completed: int = 0) -> None:
        """Begin a piece of work of `total` steps. It replaces the previous one."""

    def advance(self, completed: int) -> None:
        """Set the number of completed steps of the current work."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """Show the newest metrics of the current work."""

    def finish(self) -> None:
        """End the current work."""


class Silent:
    """A display that shows nothing."""

    def note(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    def start(self, task: str, total: int | None, completed: int = 0) -> None:
        pass

    def advance(self, completed: int) -> None:
        pass

    def metrics(self, values: Mapping[str, float]) -> None:
        pass

    def finish(self) -> None:
        pass
