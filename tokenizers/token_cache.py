"""A cache on disk for the tokens that a frozen tokenizer gives to whole clips.

Notable choices:
- A tokenizer with weights takes a good part of a training step, so each clip is tokenized once. One without, such as a
  random projection, is faster than reading a file, so it is not cached.
- A longer clip is cropped at random, so it is tokenized every time.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..core.data import PatchBatch
from ..core.interfaces import Tokenizer

_STORED_AS: Final = np.uint16
_MOST_CODES: Final = np.iinfo(_STORED_AS).max + 1


def is_worth_caching(tokenizer: Tokenizer, *, augmented: bool) -> bool:
    """Return whether a frozen tokenizer is slower than reading its tokens, and always gives a clip the same tokens.

    Args:
        augmented: whether the objective may change the clips
    """
    costly = any(True for _ in tokenizer.parameters())
    return costly and tokenizer.codebook_size <= _MOST_CODES and not augmented


class TokenCache(Tokenizer):
    """A tokenizer that reads the tokens it computed before from a file.

    Args:
        tokenizer: the frozen tokenizer whose tokens are cached
        whole: (clips of the manifest,) bool, True for clips that are never cropped
        file: an SQLite file, also used by earlier processes with the same tokenizer, front end and manifest
    """

    def __init__(self, tokenizer: Tokenizer, whole: npt.NDArray[np.bool_], file: Path) -> None:
        super().__init__(tokenizer.codebook_size, tokenizer.streams)
        self.tokenizer = tokenizer
        self._whole = whole
        file.parent.mkdir(parents=True, exist_ok=True)
        # No write-ahead log: ranks of several machines write. Nor is the file synced: lost tokens are computed again.
        self._file = sqlite3.connect(file, timeout=600, isolation_level=None)
        weakref.finalize(self, self._file.close)
        self._file.execute("PRAGMA synchronous = OFF")
        with self._writing():
            self._file.execute("CREATE TABLE IF NOT EXISTS tokens (clip INTEGER PRIMARY KEY, ids BLOB)")

    def forward(self, batch: PatchBatch) -> Tensor:
        if batch.clips is None or batch.draws is None:
            # Clips for pictures do not come from the training stream and may be cut shorter.
            return self.tokenizer.tokenize(batch).ids
        clips: list[int] = batch.clips.tolist()
        cached = self._read(clips)
        ids = torch.zeros(*batch.valid.shape, self.streams, dtype=torch.int64)
        for row, clip in enumerate(clips):
            if clip in cached:
                ids[row, : len(cached[clip])] = torch.from_numpy(cached[clip].astype(np.int64))
        ids = ids.to(batch.patches.device)
        unknown = [row for row, clip in enumerate(clips) if clip not in cached]
        if unknown:
            rows = torch.tensor(unknown, device=ids.device)
            made = self.tokenizer.tokenize(_rows(batch, rows)).by_stream
            ids[rows] = made
            self._write(
                {clips[row]: own[real] for row, own, real in zip(unknown, made, batch.valid[rows], strict=True)}
            )
        return ids if self.streams > 1 else ids[..., 0]

    def _read(self, clips: list[int]) -> dict[int, npt.NDArray[np.uint16]]:
        """The cached tokens, (N, G) of each clip."""
        places = ",".join("?" * len(clips))
        found = self._file.execute(f"SELECT clip, ids FROM tokens WHERE clip IN ({places})", clips)
        return {clip: np.frombuffer(ids, _STORED_AS).reshape(-1, self.streams) for clip, ids in found}

    def _write(self, tokens: Mapping[int, Tensor]) -> None:
        rows = [
            (clip, ids.cpu().numpy().astype(_STORED_AS).tobytes()) for clip, ids in tokens.items() if self._whole[clip]
        ]
        with self._writing():
            self._file.executemany("INSERT OR IGNORE INTO tokens VALUES (?, ?)", rows)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Wait until no other process writes. A transaction that began with a read would fail with a locked file."""
        self._file.execute("BEGIN IMMEDIATE")
        with self._file:
            yield


def _rows(batch: PatchBatch, rows: Tensor) -> PatchBatch:
    """Some clips of a batch."""
    of_clips = {
        name: value[rows]
        for name in ("patches", "valid", "clips", "labels", "draws")
        if (value := getattr(batch, name)) is not None
    }
    return replace(batch, **of_clips)
