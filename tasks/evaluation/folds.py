"""Check what an evaluation needs: labels in three splits, or in three folds or more. Importable without torch."""

from __future__ import annotations

from ...audio.corpus_overview import CorpusOverview
from ...core.corpus import SPLITS, TEST, TRAIN, VALID

FOLDS_NEEDED = "Cross-validation needs three or more: one for testing, the next for validation, the others for training"

_REMEDIES = {
    TRAIN: "draw fewer clips for the others",
    VALID: "draw some by `valid_share`",
    TEST: "draw some by a folder's `test_share`",
}
"""Maps a split to a way of getting clips into it, for corpora that have no such split."""


def folds_of(clips: CorpusOverview) -> list[int]:
    """Return the folds to cross-validate over, ascending. Empty if the corpus has a `test` split or no folds."""
    return [] if TEST in clips.splits else clips.folds(TRAIN, VALID)


def label_problems(clips: CorpusOverview) -> list[str]:
    """Return a message for each kind of label that a corpus lacks."""
    if not clips.has_classes:
        return ["the corpus has no labels for an evaluation"]
    if folds := folds_of(clips):
        return _fold_problems(clips, folds)
    return [
        f"the corpus has no labelled clip in its split `{split}`: {remedy}, or name its clips in a table's split column"
        for split, remedy in _REMEDIES.items()
        if not clips.has_labels(split)
    ]


def _fold_problems(clips: CorpusOverview, folds: list[int]) -> list[str]:
    if len(folds) < 3:
        return [f"the corpus has {len(folds)} folds and no split `test`. {FOLDS_NEEDED}"]
    labelled = clips.folds(*SPLITS, labelled=True)
    return [f"the corpus has no labelled clip in its fold {fold}" for fold in folds if fold not in labelled]
