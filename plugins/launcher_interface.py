"""The interface of launchers, which run the cells of an ablation in processes on this machine or elsewhere."""

from __future__ import annotations

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol


class Job(Protocol):
    """A function that was submitted to a launcher."""

    def done(self) -> bool:
        """Return whether the function has ended, with or without an error."""

    def result(self) -> Any:
        """Wait until the function has ended, and return its result.

        Raises:
            OssicleError: if there is no result, for example because the process was killed
        """

    def cancel(self) -> None:
        """Ask the function to stop, by SIGTERM. It ends after it has stored what is needed to continue."""


class Launcher(ABC):
    """Runs functions in separate processes.

    The first constructor argument is its typed configuration. A constructor can also take `jobs`, the number of
    functions that run at once, and `folder`, the folder for the launcher's files. All processes must see the same
    files.
    """

    @abstractmethod
    def submit(self, name: str, function: Callable[..., Any], *arguments: Any) -> Job:
        """Call a function in another process. Callers submit at most `jobs` functions at a time.

        Args:
            name: display name of the job
            function: a function that the other process can import
            arguments: plain data
        """

    @abstractmethod
    def close(self) -> None:
        """Release all resources, and end jobs that are still running."""


def end_with_parent() -> None:
    """Terminate this process as soon as the process that started it ends, even by SIGKILL."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    # Imported here because every command loads the launchers' plugin.
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
