"""What a corpus is: a manifest of clips, their labels and splits; no audio is held in memory.

Importable without torch, so that `ossicle check` can read a corpus at once.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import CorpusError

TRAIN, VALID, TEST, UNLABELLED = "train", "valid", "test", "unlabelled"
SPLITS = (TRAIN, VALID, TEST, UNLABELLED)


@dataclass(frozen=True)
class Manifest:
    """The clips of a corpus as columns of equal length.

    Attributes:
        root: folder that the paths are relative to
        paths: (clips,) str, with forward slashes
        frames: (clips,) int64, samples per channel as the file's header states them; 0 where it cannot be read
        sample_rates: (clips,) int32 in Hz; 0 where the file cannot be read
        splits: (clips,) one of `SPLITS`
        labels: for each clip the ids of its labels (one for single-label corpora, none for unlabelled clips)
        label_names: the name of each label id
        multi_label: whether a clip can carry several labels
        folds: (clips,) int32; -1 where the corpus has no folds
    """

    root: Path
    paths: npt.NDArray[np.str_]
    frames: npt.NDArray[np.int64]
    sample_rates: npt.NDArray[np.int32]
    splits: npt.NDArray[np.str_]
    labels: Sequence[tuple[int, ...]]
    label_names: tuple[str, ...] = ()
    multi_label: bool = False
    folds: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    def __post_init__(self) -> None:
        if not self.folds.size and len(self.paths):
            object.__setattr__(self, "folds", np.full(len(self.paths), -1, np.int32))
        lengths = {
            len(self.paths),
            len(self.frames),
            len(self.sample_rates),
            len(self.splits),
            len(self.labels),
            len(self.folds),
        }
        if len(lengths) > 1:
            raise CorpusError(f"the columns of a manifest must have one length, but have {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """(clips,) duration in seconds; 0 where the file cannot be read."""
        return self.frames / np.maximum(self.sample_rates, 1)

    def path(self, clip: int) -> Path:
        """Where the recording of clip number `clip` lies."""
        return self.root / str(self.paths[clip])

    def rows_in(self, *splits: str) -> npt.NDArray[np.int64]:
        """The numbers of the clips that belong to any of `splits`."""
        return np.flatnonzero(np.isin(self.splits, splits)).astype(np.int64)

    def take(self, rows: npt.NDArray[np.int64]) -> Manifest:
        """The manifest of the clips numbered `rows`, in that order."""
        return replace(
            self,
            paths=self.paths[rows],
            frames=self.frames[rows],
            sample_rates=self.sample_rates[rows],
            splits=self.splits[rows],
            labels=[self.labels[row] for row in rows],
            folds=self.folds[rows],
        )

    def fingerprint(self) -> str:
        """SHA-256 over every column and the label names; the root folder does not enter."""
        digest = hashlib.sha256()
        digest.update("\x1f".join(self.label_names).encode() + bytes([self.multi_label]))
        for path, frames, rate, split, labels, fold in zip(
            self.paths, self.frames, self.sample_rates, self.splits, self.labels, self.folds, strict=True
        ):
            digest.update(f"{path}\x1f{frames}\x1f{rate}\x1f{split}\x1f{labels}\x1f{fold}\x1e".encode())
        return digest.hexdigest()


class Corpus(ABC):
    """A set of recordings. The first constructor argument is its typed configuration.

    A corpus reads names, lengths and labels; it decodes nothing. `prepare` may render or index what the corpus needs
    on first use and must be idempotent; `manifest` may assume that `prepare` has run.
    """

    @abstractmethod
    def manifest(self) -> Manifest:
        """List the clips.

        Raises:
            CorpusError: if the corpus is missing or malformed; the message names the file, the line and the remedy.
        """

    def declared_seconds(self) -> npt.NDArray[np.float64] | None:
        """(clips,) how long each recording should be, for the survey to find truncated ones; NaN where unknown.

        None, the default, leaves that to the recordings' own headers.
        """
        return None

    def prepare(self) -> None:  # noqa: B027  # nothing is the right default
        """Make what the corpus needs on first use (rendering, an index); nothing by default."""

    @property
    def is_ready(self) -> bool:
        """Whether `prepare` has nothing left to do."""
        return True

    def problems(self) -> list[str]:
        """What can be told to be wrong before any work is done, without rendering: missing folders, bad columns."""
        return []

    def card(self) -> dict[str, Any]:
        """Where the recordings come from and under which licence, for reports."""
        return {}
