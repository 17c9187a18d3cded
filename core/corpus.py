"""The `Corpus` interface and the names of splits. Importable without torch and numpy, so `ossicle check` is quick."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .manifest import Manifest

TRAIN, VALID, TEST, UNLABELLED = "train", "valid", "test", "unlabelled"
SPLITS = (TRAIN, VALID, TEST, UNLABELLED)


class Corpus(ABC):
    """A set of recordings. The first constructor argument is its typed configuration.

    A corpus reads names, lengths and labels, but decodes no audio. `prepare` can render or index what the corpus needs
    on first use, and must be idempotent. `manifest` can assume that `prepare` has run.
    """

    @abstractmethod
    def manifest(self) -> Manifest:
        """List the clips.

        Raises:
            CorpusError: if the corpus is missing or malformed; the message names the file, the line and the remedy.
        """

    def declared_seconds(self) -> npt.NDArray[np.float64] | None:
        """Return the expected length of each recording: (clips,) in seconds, NaN if unknown.

        The survey uses it to find truncated recordings. With None, the default, it uses the recordings' headers.
        """
        return None

    def prepare(self) -> None:  # noqa: B027  # nothing is the right default
        """Make what the corpus needs on first use, such as rendered recordings or an index. Nothing by default."""

    @property
    def is_ready(self) -> bool:
        """Whether `prepare` has nothing left to do."""
        return True

    def problems(self) -> list[str]:
        """Report what is wrong with the corpus, such as missing folders or bad columns, without rendering anything."""
        return []

    def card(self) -> dict[str, Any]:
        """Return the source and the licence of the recordings, for reports."""
        return {}
