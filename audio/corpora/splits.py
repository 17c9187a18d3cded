"""Common names of splits, and a draw of splits that does not change when files are added."""

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
    """Return the split that `name` means in a folder or a table, ignoring case; None if it does not name a split."""
    return SPLIT_NAMES.get(name.strip().lower())


def drawn_split(path: str, *, valid_share: float, test_share: float, seed: int) -> str:
    """Draw a clip's split by a hash of its path and the seed, so it does not depend on which other clips exist."""
    digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2**64
    if uniform < test_share:
        return TEST
    return VALID if uniform < test_share + valid_share else TRAIN
