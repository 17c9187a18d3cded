"""What a corpus needs for an evaluation: labels in three splits, or in three folds or more. Needs no torch."""

from __future__ import annotations

from ...core.corpus import TEST, TRAIN, VALID, Manifest

FOLDS_NEEDED = "Cross-validation needs three or more: one to test on, the next to choose on, the rest to learn from"

_REMEDIES = {
    TRAIN: "draw fewer clips for the others",
    VALID: "draw some by `valid_share`",
    TEST: "draw some by a folder's `test_share`",
}
"""Split to how it gets clips, where a corpus does not come with it."""


def folds_of(manifest: Manifest) -> list[int]:
    """The folds to cross-validate over, ascending; none where the corpus has a `test` split or no folds."""
    if len(manifest.rows_in(TEST)):
        return []
    return sorted(fold for fold in set(manifest.folds[manifest.rows_in(TRAIN, VALID)].tolist()) if fold >= 0)


def label_problems(manifest: Manifest) -> list[str]:
    """Report the labels that a corpus lacks."""
    if not manifest.label_names:
        return ["the corpus has no labels to judge by"]
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
