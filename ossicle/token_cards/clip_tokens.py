"""Tokenize drawn clips, and embed them with the encoder that learnt from the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..audio.patch_batches import waveform_patches
from ..encoders.pooling import encoded_views
from .clips import Wave
from .sources import Subject

Ids = npt.NDArray[np.int64]

BATCH_SECONDS = 64.0


@dataclass(frozen=True)
class ClipTokens:
    """What a tokenizer says of clips.

    Attributes:
        ids: for each clip (N, G) tokens of its N real patches, time-major, in G streams
        bands: patches per time column
        codebook_size: K, codes of each stream
    """

    ids: Sequence[Ids]
    bands: int
    codebook_size: int

    @property
    def streams(self) -> int:
        """G."""
        return int(self.ids[0].shape[1])

    @property
    def lengths(self) -> Ids:
        """(clips,) real patches of each."""
        return np.array([len(clip) for clip in self.ids], dtype=np.int64)

    @property
    def clips(self) -> Ids:
        """(tokens,) the number of the clip that each token of all clips in a row belongs to."""
        return np.repeat(np.arange(len(self.ids)), self.lengths)

    @property
    def positions(self) -> Ids:
        """(tokens,) the position of each token in its clip's grid."""
        return np.concatenate([np.arange(length) for length in self.lengths])

    def stream(self, number: int) -> list[Ids]:
        """The tokens of one stream, (N,) for each clip."""
        return [np.ascontiguousarray(clip[:, number]) for clip in self.ids]

    def joined(self, number: int) -> Ids:
        """The tokens of one stream for all clips in a row."""
        return np.concatenate(self.stream(number))

    def first(self, clips: int) -> ClipTokens:
        """The same of the first so many clips alone."""
        return ClipTokens(self.ids[:clips], self.bands, self.codebook_size)


@torch.inference_mode()
def tokenize(subject: Subject, waves: Sequence[Wave]) -> ClipTokens:
    """Tokenize clips that are given at the front end's rate."""
    found: dict[int, Ids] = {}
    for batch in waveform_patches(waves, subject.part.front_end, batch_seconds=BATCH_SECONDS):
        tokens = subject.tokenizer.to(batch.patches.device).tokenize(batch)
        for clip, ids, valid in zip(batch.rows, tokens.by_stream.cpu(), tokens.valid.cpu(), strict=True):
            found[clip] = ids[valid].numpy()
    ordered = [found[clip] for clip in range(len(waves))]
    return ClipTokens(ordered, subject.part.front_end.bands, subject.tokenizer.codebook_size)


@torch.inference_mode()
def embed(subject: Subject, waves: Sequence[Wave]) -> npt.NDArray[np.float32] | None:
    """(clips, bands * D) mean of the encoder's vectors over time in each band; None where there is no encoder."""
    encoder = subject.part.encoder
    if encoder is None:
        return None
    found: dict[int, Tensor] = {}
    for batch in waveform_patches(waves, subject.part.front_end, batch_seconds=BATCH_SECONDS):
        views = encoded_views(encoder.to(batch.patches.device)(batch))
        found |= zip(batch.rows, views["bands"].float().cpu(), strict=True)
    embedded: npt.NDArray[np.float32] = torch.stack([found[clip] for clip in range(len(waves))]).numpy()
    return embedded
