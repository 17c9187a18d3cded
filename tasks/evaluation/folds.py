"""Check what an evaluation needs: labels in three splits, or in three folds or more. Importable without torch."""

from __future__ import annotations

from ...core.corpus import TEST, TRAIN, VALID, Manifest

FOLDS_NEEDED = "Cross-validation needs three or more: one for testing, the next for validation, the others for training"

_REMEDIES = {
    TRAIN: "draw fewer clips for the others",
    VALID: "draw some by `valid_share`",
    TEST: "draw some by a folder's `test_share`",
}
"""Maps a split to a way of getting clips into it, for corpora that have no such split."""


def folds_of(manifest: Manifest) -> list[int]:
    """Return the folds to cross-validate over, ascending. Empty if the corpus has a `test` split or no folds."""
    if len(manifest.rows_in(TEST)):
        return []
    return sorted(fold for fold in set(manifest.folds[manifest.rows_in(TRAIN, VALID)].tolist()) if fold >= 0)


def label_problems(manifest: Manifest) -> list[str]:
    """Return a message for each kind of label that a corpus lacks."""
    if not manifest.label_names:
        return ["the corpus has no labels for an evaluation"]
    if folds := folds_of(manifest):
        return _fold_problems(manifest, folds)
    return [
        f"the corpus has no labelled clip in its split `{split}`: {remedy}, or name its clips in a table's split column"
        for split, remedy in _REMEDIES.items()
        if not manifest.labels.counts[manifest.rows_in(split)].any()
    ]


def _fold_problems(manifest: Manifest, folds: list[int]) -> list[str]:
    if len(folds) < 3:
        return [f"the corpus has {len(folds)} folds and no split `test`. {FOLDS_NEEDED}"]
    labelled = set(manifest.folds[manifest.labels.counts > 0].tolist())
    return [f"the corpus has no labelled clip in its fold {fold}" for fold in folds if fold not in labelled]
