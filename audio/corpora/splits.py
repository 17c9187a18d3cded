"""The names by which splits go in the wild, and a draw of splits that adding files does not disturb."""

from __future__ import annotations

import hashlib

from ...core.corpus import TEST, TRAIN, UNLABELLED, VALID

SPLIT_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "valid": VALID,
    "val": VALID,
    "validation": VALID,
    "dev": VALID,
    "test": TEST,
    "unlabelled": UNLABELLED,
    "unlabeled": UNLABELLED,
}


def split_named(name: str) -> str | None:
    """The split that a folder or a table means by `name`, in any case of letters; None if it means none."""
    return SPLIT_NAMES.get(name.strip().lower())


def drawn_split(path: str, *, valid_share: float, test_share: float, seed: int) -> str:
    """Draw a clip's split from its path alone, so that it stays where it is when others come or go."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_share:
        return TEST
    return VALID if place < test_share + valid_share else TRAIN
