"""Labels of clips that are always heard whole, kept on disk once a frozen tokenizer has made them.

Notable choices: a tokenizer with weights of its own costs a good part of a training step, so each clip's labels are
made when it first comes; one without, such as a random projection, labels faster than a file is read. What is random in
a longer clip is where it is cropped, so its labels are made anew every time.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..core.data import PatchBatch
from ..core.interfaces import Objective, Tokenizer

_KEPT_AS: Final = np.uint16
_MOST_CODES: Final = np.iinfo(_KEPT_AS).max + 1


def are_kept(tokenizer: Tokenizer, objective: Callable[..., object]) -> bool:
    """Whether making a frozen tokenizer's labels costs more than reading them, and they are the same every time."""
    costly = any(True for _ in tokenizer.parameters())
    unchanged = getattr(objective, "augment", None) is Objective.augment
    return costly and tokenizer.codebook_size <= _MOST_CODES and unchanged


class KeptLabels(Tokenizer):
    """What another tokenizer says, read from a file where it has said it before.

    Args:
        tokenizer: frozen
        whole: (clips of the manifest,) bool, those that are always heard whole
        file: keeps the labels, also of earlier processes with the same tokenizer, front end and manifest
    """

    def __init__(self, tokenizer: Tokenizer, whole: npt.NDArray[np.bool_], file: Path) -> None:
        super().__init__(tokenizer.codebook_size, tokenizer.streams)
        self.tokenizer = tokenizer
        self._whole = whole
        file.parent.mkdir(parents=True, exist_ok=True)
        # Several ranks write, of several machines too, which a write-ahead log is not for; lost labels are made again.
        self._file = sqlite3.connect(file, timeout=600, isolation_level=None)
        weakref.finalize(self, self._file.close)
        self._file.execute("PRAGMA synchronous = OFF")
        with self._writing():
            self._file.execute("CREATE TABLE IF NOT EXISTS labels (clip INTEGER PRIMARY KEY, ids BLOB)")

    def forward(self, batch: PatchBatch) -> Tensor:
        if batch.clips is None or batch.draws is None:
            # Not from the training stream: shown clips may be cut shorter.
            return self.tokenizer(batch)  # type: ignore[no-any-return]
        clips: list[int] = batch.clips.tolist()
        kept = self._read(clips)
        ids = torch.zeros(*batch.valid.shape, self.streams, dtype=torch.int64)
        for row, clip in enumerate(clips):
            if clip in kept:
                ids[row, : len(kept[clip])] = torch.from_numpy(kept[clip].astype(np.int64))
        ids = ids.to(batch.patches.device)
        unknown = [row for row, clip in enumerate(clips) if clip not in kept]
        if unknown:
            rows = torch.tensor(unknown, device=ids.device)
            made = self.tokenizer.tokenize(_rows(batch, rows)).by_stream
            ids[rows] = made
            self._write(
                {clips[row]: own[real] for row, own, real in zip(unknown, made, batch.valid[rows], strict=True)}
            )
        return ids if self.streams > 1 else ids[..., 0]

    def _read(self, clips: list[int]) -> dict[int, npt.NDArray[np.uint16]]:
        """The labels that are kept, (N, G) of each clip."""
        places = ",".join("?" * len(clips))
        found = self._file.execute(f"SELECT clip, ids FROM labels WHERE clip IN ({places})", clips)
        return {clip: np.frombuffer(ids, _KEPT_AS).reshape(-1, self.streams) for clip, ids in found}

    def _write(self, labels: Mapping[int, Tensor]) -> None:
        rows = [
            (clip, ids.cpu().numpy().astype(_KEPT_AS).tobytes()) for clip, ids in labels.items() if self._whole[clip]
        ]
        with self._writing():
            self._file.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?)", rows)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Wait until no other process writes; who began to read before would be told that the file is locked."""
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
