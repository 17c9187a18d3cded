"""The labelled splits that a probe needs, checked before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.corpus import TEST, TRAIN, VALID, Manifest
from ..core.errors import CorpusError


@dataclass(frozen=True)
class LabelledRows:
    """The clips of one split.

    Attributes:
        rows: (clips,) row numbers in the manifest
        truth: (clips, classes) bool
    """

    rows: npt.NDArray[np.int64]
    truth: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledSplits:
    """What a probe learns from, chooses on and is scored on."""

    train: LabelledRows
    valid: LabelledRows
    test: LabelledRows
    multi_label: bool


def labelled_splits(clips: Manifest) -> LabelledSplits:
    """Cut a labelled manifest into its three splits; clips of the split `unlabelled` are passed over.

    Raises:
        CorpusError: if a split or its labels are missing, or the training clips cannot teach every class
    """
    if len(clips.label_names) < 2 or not any(clips.labels):
        raise CorpusError(
            "a probe needs clips labelled with two or more classes, and this corpus has none; "
            "name a labelled corpus under the task's `corpus`"
        )
    train, valid, test = (_labelled_rows(clips, split) for split in (TRAIN, VALID, TEST))
    _check_teachable(train.truth, clips)
    if len(test.rows) < 2:
        raise CorpusError("an interval needs two or more `test` clips, but this corpus has 1; add test clips")
    return LabelledSplits(train, valid, test, clips.multi_label)


def _labelled_rows(clips: Manifest, split: str) -> LabelledRows:
    rows = clips.rows_in(split)
    if not rows.size:
        raise CorpusError(_missing_split(clips, split))
    truth = _truth(clips, rows)
    if not truth.any():
        raise CorpusError(f"none of the {len(rows)} `{split}` clips carries a label; label them or name another corpus")
    if not clips.multi_label:
        _check_one_label(clips, rows, truth)
    return LabelledRows(rows, truth)


def _truth(clips: Manifest, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    truth = np.zeros((len(rows), len(clips.label_names)), dtype=np.bool_)
    for place, row in enumerate(rows):
        truth[place, list(clips.labels[row])] = True
    return truth


def _missing_split(clips: Manifest, split: str) -> str:
    if split != VALID:
        return f"a probe needs `{split}` clips, and this corpus has none; check how the corpus assigns its splits"
    if (clips.folds >= 0).any():
        return (
            "a probe chooses its settings on `valid` clips, and this corpus has folds but no such clips; "
            "cross-validation over folds is not supported yet: set the corpus's `valid_share` instead"
        )
    return (
        "a probe chooses its settings on `valid` clips, and this corpus has none; "
        "set the corpus's `valid_share`, for instance `valid_share: 0.1`"
    )


def _check_one_label(clips: Manifest, rows: npt.NDArray[np.int64], truth: npt.NDArray[np.bool_]) -> None:
    counts = truth.sum(axis=1)
    wrong = np.flatnonzero(counts != 1)
    if wrong.size:
        first = wrong[0]
        raise CorpusError(
            f"each clip of this corpus must carry 1 label, but {wrong.size} do not, first "
            f"`{clips.paths[rows[first]]}` with {counts[first]}; mend its labels or mark the corpus as multi-label"
        )


def _check_teachable(truth: npt.NDArray[np.bool_], clips: Manifest) -> None:
    """A class is learnt from clips that carry it and clips that do not."""
    absent = np.flatnonzero(~truth.any(axis=0))
    if absent.size:
        raise CorpusError(
            f"no `train` clip carries {_named(clips.label_names, absent)}; "
            "move clips that do into `train`, or leave the class out of the corpus"
        )
    constant = np.flatnonzero(truth.all(axis=0))
    if constant.size:
        raise CorpusError(
            f"every `train` clip carries {_named(clips.label_names, constant)}, so nothing can be told from it; "
            "add `train` clips that do not, or leave the class out of the corpus"
        )


def _named(names: Sequence[str], which: npt.NDArray[np.int64], most: int = 5) -> str:
    shown = ", ".join(f"`{names[number]}`" for number in which[:most])
    rest = len(which) - most
    return f"{shown} and {rest} more" if rest > 0 else shown
