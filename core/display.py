"""What a run shows while it works. The core only calls this; the front door decides how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Display(Protocol):
    """Told of the progress of a run."""

    def note(self, message: str) -> None:
        """Something worth a line."""

    def warn(self, message: str) -> None:
        """Something that needs the user's attention."""

    def start(self, task: str, total: int | None, completed: int = 0) -> None:
        """A piece of work of `total` steps begins; it replaces the one before."""

    def advance(self, completed: int) -> None:
        """So many steps of the current work are done."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """The newest metrics of the current work."""

    def finish(self) -> None:
        """The current work is over."""


class Silent:
    """Shows nothing."""

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
