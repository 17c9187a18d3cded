"""Where the cells of an ablation run: a launcher takes functions to processes, on this machine or elsewhere."""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol


class Job(Protocol):
    """A function that a launcher has taken on."""

    def done(self) -> bool:
        """Whether it is over, well or not."""

    def result(self) -> Any:
        """What the function gave, once it is over.

        Raises:
            OssicleError: if it gave nothing, because its process was killed
        """

    def cancel(self) -> None:
        """Ask it to stop, by SIGTERM; it is over when it has kept what is needed to go on."""


class Launcher(ABC):
    """Runs functions in processes of their own.

    The first constructor argument is its typed configuration; it may also ask for `jobs`, how many functions run at
    once, and for `folder`, where it may keep what it writes. All processes must see the same files.
    """

    @abstractmethod
    def submit(self, name: str, function: Callable[..., Any], *arguments: Any) -> Job:
        """Have a function called in another process; it is never asked for more than `jobs` at a time.

        Args:
            name: what people call the job
            function: can be imported where it runs
            arguments: plain data
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what is held, and end jobs that are still running."""


def end_with_parent() -> None:
    """Let this process be terminated as soon as the process that started it is gone, even by SIGKILL."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    # Imported here because every command loads the launchers' plugin.
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
