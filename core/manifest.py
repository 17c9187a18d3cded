"""The manifest, which lists the clips of a corpus with their labels and splits.

Notable choices:

- A manifest consists of columns without a Python object per clip, because a corpus can have millions of clips.
- A column of text stores each value at its length instead of the length of the longest value.
- No audio is held in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from .errors import CorpusError

Text: TypeAlias = np.ndarray[Any, Any]
"""A column of text of variable length (`numpy.dtypes.StringDType`)."""

_ROWS_AT_ONCE = 2**14
_LINE = "%s\x1f%d\x1f%d\x1f%s\x1f%s\x1f%d\x1e"


def text_column(values: Iterable[str]) -> Text:
    """Make a column of text from its values."""
    column: Text = np.array(list(values), dtype=np.dtypes.StringDType())
    return column


class Labels(Sequence[tuple[int, ...]]):
    """The label ids of many clips, stored as two columns.

    Args:
        ids: the ids of all clips, concatenated
        ends: (clips,) index in `ids` after the last id of each clip
    """

    def __init__(self, ids: npt.NDArray[np.int32], ends: npt.NDArray[np.int64]) -> None:
        self._ids = ids
        self._ends = ends

    @classmethod
    def of(cls, labels: Iterable[Sequence[int]]) -> Labels:
        """Make the columns from the label ids of each clip."""
        if isinstance(labels, Labels):
            return labels
        clips = labels if isinstance(labels, Sequence) else list(labels)
        ends = np.cumsum(np.fromiter(map(len, clips), dtype=np.int64, count=len(clips)))
        ids = np.fromiter((number for clip in clips for number in clip), dtype=np.int32, count=int(ends[-1:].sum()))
        return cls(ids, ends)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(clips,) number of labels of each clip."""
        return np.diff(self._ends, prepend=0)

    def truth(self, rows: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.bool_]:
        """Return which classes the clips numbered `rows` have: (rows, classes) bool."""
        taken = self.take(rows)
        truth = np.zeros((len(rows), classes), dtype=np.bool_)
        truth[np.repeat(np.arange(len(rows)), taken.counts), taken._ids] = True
        return truth

    def take(self, rows: npt.NDArray[np.int64]) -> Labels:
        """Return the labels of the clips numbered `rows`, in that order."""
        counts = self.counts[rows]
        ends = np.cumsum(counts)
        # Distance from the position of a clip's ids in the result to their position in `_ids`.
        shifts = self._ends[rows] - ends
        return Labels(self._ids[np.arange(int(counts.sum())) + np.repeat(shifts, counts)], ends)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, clip: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, clip: slice) -> Labels: ...
    def __getitem__(self, clip: int | slice) -> tuple[int, ...] | Labels:
        if isinstance(clip, slice):
            return self.take(np.arange(len(self))[clip])
        place = range(len(self))[clip]
        start = int(self._ends[place - 1]) if place else 0
        return tuple(self._ids[start : int(self._ends[place])].tolist())

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        start = 0
        for end in self._ends.tolist():
            yield tuple(self._ids[start:end].tolist())
            start = end

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Manifest:
    """The clips of a corpus as columns of equal length.

    Attributes:
        root: folder that the paths are relative to
        paths: (clips,) text, with forward slashes; any array of text is accepted
        frames: (clips,) int64, samples per channel according to the file's header; 0 if the file cannot be read
        sample_rates: (clips,) int32 in Hz; 0 if the file cannot be read
        splits: (clips,) one of `SPLITS`
        labels: the label ids of each clip (one for single-label corpora, none for unlabelled clips); any sequence of
            tuples is accepted
        label_names: the name of each label id
        multi_label: whether a clip can have several labels
        folds: (clips,) int32; -1 if the corpus has no folds
        contents: (clips,) uint64, which distinguishes recordings that agree in all other columns; 0 if the paths
            distinguish them
        weights: (clips,) float64, relative frequency of each clip in pre-training, where clips are then drawn with
            replacement; empty if every clip is used once per pass
    """

    root: Path
    paths: Text
    frames: npt.NDArray[np.int64]
    sample_rates: npt.NDArray[np.int32]
    splits: npt.NDArray[np.str_]
    labels: Labels
    label_names: tuple[str, ...] = ()
    multi_label: bool = False
    folds: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    contents: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    weights: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", np.asarray(self.paths, dtype=np.dtypes.StringDType()))
        object.__setattr__(self, "labels", Labels.of(self.labels))
        if not self.folds.size and len(self.paths):
            object.__setattr__(self, "folds", np.full(len(self.paths), -1, np.int32))
        if not self.contents.size and len(self.paths):
            object.__setattr__(self, "contents", np.zeros(len(self.paths), np.uint64))
        numbers = self.frames, self.sample_rates, self.folds, self.contents
        lengths = {len(column) for column in (self.paths, self.splits, self.labels, *numbers)}
        lengths |= {len(self.weights)} if self.weights.size else set()
        if len(lengths) > 1:
            raise CorpusError(f"the columns of a manifest must have the same length, but have {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """(clips,) duration in seconds; 0 if the file cannot be read."""
        return self.frames / np.maximum(self.sample_rates, 1)

    def path(self, clip: int) -> Path:
        """Return the path of the recording of clip number `clip`."""
        return self.root / str(self.paths[clip])

    def rows_in(self, *splits: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the clips in any of `splits`."""
        return np.flatnonzero(np.isin(self.splits, splits)).astype(np.int64)

    def take(self, rows: npt.NDArray[np.int64]) -> Manifest:
        """Return the manifest of the clips numbered `rows`, in that order."""
        return replace(
            self,
            paths=self.paths[rows],
            frames=self.frames[rows],
            sample_rates=self.sample_rates[rows],
            splits=self.splits[rows],
            labels=self.labels.take(rows),
            folds=self.folds[rows],
            contents=self.contents[rows],
            weights=self.weights[rows] if self.weights.size else self.weights,
        )

    def fingerprint(self) -> str:
        """Compute the SHA-256 of every column and the label names. The root folder does not enter."""
        digest = hashlib.sha256()
        digest.update("\x1f".join(self.label_names).encode() + bytes([self.multi_label]))
        for start in range(0, len(self), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            columns = (self.paths, self.frames, self.sample_rates, self.splits)
            clips = zip(
                *(column[rows].tolist() for column in columns),
                self.labels[rows],
                self.folds[rows].tolist(),
                strict=True,
            )
            digest.update("".join(_LINE % clip for clip in clips).encode())
        if self.contents.any():
            digest.update(self.contents.astype("<u8").tobytes())
        if self.weights.size:
            digest.update(self.weights.astype("<f8").tobytes())
        return digest.hexdigest()
