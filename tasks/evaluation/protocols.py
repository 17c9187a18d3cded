"""Divide a labelled corpus into training, validation and test clips, by splits or by folds.

Notable choices:

- A corpus with folds and no `test` split is cross-validated. One fold is the test split, the next one (after the last,
  the first) the validation split, and all others the training split. So settings are never chosen on test clips.
- Clips without a fold keep their split throughout.
- Everything is checked before anything is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...audio.corpus_overview import CorpusOverview
from ...core.corpus import TEST, TRAIN, UNLABELLED, VALID
from ...core.errors import CorpusError
from ...core.manifest import Manifest
from .folds import FOLDS_NEEDED, folds_of

NO_FOLD = -1


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
    """The training, validation and test clips of one model.

    Attributes:
        fold: the fold that is the test split; `NO_FOLD` if the corpus has a `test` split
    """

    train: LabelledRows
    valid: LabelledRows
    test: LabelledRows
    multi_label: bool
    fold: int = NO_FOLD


def protocols(clips: Manifest) -> list[LabelledSplits]:
    """Return the splits of every model to fit: one model, or one per fold in ascending order.

    No clip is a test clip twice. Clips of the split `unlabelled` are skipped.

    Raises:
        CorpusError: if a split or its labels are missing, there are fewer than three folds, or the training clips do
            not suffice to learn every class
    """
    if len(clips.label_names) < 2 or not clips.labels.counts.any():
        raise CorpusError(
            "a task needs clips labelled with two or more classes, and this corpus has none; "
            "name a labelled corpus under the task's `corpus`"
        )
    folds = folds_of(CorpusOverview.of(clips))
    if not folds:
        return [_labelled_splits(clips, NO_FOLD)]
    if len(folds) < 3:
        raise CorpusError(f"this corpus has {len(folds)} folds and no `test` clips. {FOLDS_NEEDED}")
    return [_of_fold(clips, fold, following) for fold, following in zip(folds, folds[1:] + folds[:1], strict=True)]


def lessons(clips: Manifest) -> tuple[LabelledRows, LabelledRows | None]:
    """Return the training and validation clips of a model that is not evaluated.

    These are the clips of `train` and `valid`. If a corpus has folds and no `test` split, the clips of all folds are
    training clips. Only `valid` clips without a fold are then left for validation.

    Raises:
        CorpusError: if labels are missing, or the training clips do not suffice to learn every class
    """
    if folds_of(CorpusOverview.of(clips)):
        clips = replace(clips, splits=np.where((clips.folds >= 0) & (clips.splits == VALID), TRAIN, clips.splits))
    train = _labelled_rows(clips, TRAIN)
    _check_teachable(train.truth, clips)
    return train, _labelled_rows(clips, VALID) if clips.rows_in(VALID).size else None


def _of_fold(clips: Manifest, fold: int, following: int) -> LabelledSplits:
    roles = np.select([clips.folds == fold, clips.folds == following, clips.folds >= 0], [TEST, VALID, TRAIN], "")
    keep = (roles == "") | (clips.splits == UNLABELLED)
    try:
        return _labelled_splits(replace(clips, splits=np.where(keep, clips.splits, roles)), fold)
    except CorpusError as error:
        raise CorpusError(f"with fold {fold} as `test` and fold {following} as `valid`: {error}") from None


def _labelled_splits(clips: Manifest, fold: int) -> LabelledSplits:
    train, valid, test = (_labelled_rows(clips, split) for split in (TRAIN, VALID, TEST))
    _check_teachable(train.truth, clips)
    if fold == NO_FOLD and len(test.rows) < 2:
        raise CorpusError("an interval needs two or more `test` clips, but this corpus has 1; add test clips")
    return LabelledSplits(train, valid, test, clips.multi_label, fold)


def _labelled_rows(clips: Manifest, split: str) -> LabelledRows:
    rows = clips.rows_in(split)
    if not rows.size:
        raise CorpusError(_missing_split(split))
    truth = clips.labels.truth(rows, len(clips.label_names))
    if not truth.any():
        raise CorpusError(f"none of the {len(rows)} `{split}` clips carries a label; label them or name another corpus")
    if not clips.multi_label:
        _check_one_label(clips, rows, truth)
    return LabelledRows(rows, truth)


def _missing_split(split: str) -> str:
    if split != VALID:
        return f"a task needs `{split}` clips, and this corpus has none; check how the corpus assigns its splits"
    return (
        "a task chooses its settings on `valid` clips, and this corpus has none; "
        "set the corpus's `valid_share`, for instance `valid_share: 0.1`"
    )


def _check_one_label(clips: Manifest, rows: npt.NDArray[np.int64], truth: npt.NDArray[np.bool_]) -> None:
    counts = truth.sum(axis=1)
    wrong = np.flatnonzero(counts != 1)
    if wrong.size:
        first = wrong[0]
        raise CorpusError(
            f"each clip of this corpus must carry 1 label, but {wrong.size} do not, first "
            f"`{clips.paths[rows[first]]}` with {counts[first]}; fix its labels or mark the corpus as multi-label"
        )


def _check_teachable(truth: npt.NDArray[np.bool_], clips: Manifest) -> None:
    """Check that every class has training clips with it and training clips without it."""
    absent = np.flatnonzero(~truth.any(axis=0))
    if absent.size:
        raise CorpusError(
            f"no `train` clip carries {_named(clips.label_names, absent)}; "
            "move clips that do into `train`, or leave the class out of the corpus"
        )
    constant = np.flatnonzero(truth.all(axis=0))
    if constant.size:
        raise CorpusError(
            f"every `train` clip carries {_named(clips.label_names, constant)}, so it cannot be learnt; "
            "add `train` clips that do not, or leave the class out of the corpus"
        )


def _named(names: Sequence[str], which: npt.NDArray[np.int64], most: int = 5) -> str:
    shown = ", ".join(f"`{names[number]}`" for number in which[:most])
    rest = len(which) - most
    return f"{shown} and {rest} more" if rest > 0 else shown
