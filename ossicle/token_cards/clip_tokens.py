"""Tokenize drawn clips, and embed them with the encoder that was trained on the tokens."""

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
    """The tokens of clips.

    Attributes:
        ids: for each clip (N, G) tokens of its N real patches, time-major, in G streams
        bands: patches per time column
        codebook_size: number of codes of each stream, K
    """

    ids: Sequence[Ids]
    bands: int
    codebook_size: int

    @property
    def streams(self) -> int:
        """The number of streams, G."""
        return int(self.ids[0].shape[1])

    @property
    def lengths(self) -> Ids:
        """(clips,) number of real patches of each clip."""
        return np.array([len(clip) for clip in self.ids], dtype=np.int64)

    @property
    def clips(self) -> Ids:
        """(tokens,) clip index of each token, with the clips concatenated."""
        return np.repeat(np.arange(len(self.ids)), self.lengths)

    @property
    def positions(self) -> Ids:
        """(tokens,) position of each token in the grid of its clip."""
        return np.concatenate([np.arange(length) for length in self.lengths])

    def stream(self, number: int) -> list[Ids]:
        """Return the tokens of one stream, (N,) for each clip."""
        return [np.ascontiguousarray(clip[:, number]) for clip in self.ids]

    def joined(self, number: int) -> Ids:
        """Return the tokens of one stream with all clips concatenated, (tokens,)."""
        return np.concatenate(self.stream(number))

    def first(self, clips: int) -> ClipTokens:
        """Return the tokens of only the first `clips` clips."""
        return ClipTokens(self.ids[:clips], self.bands, self.codebook_size)


@torch.inference_mode()
def tokenize(subject: Subject, waves: Sequence[Wave]) -> ClipTokens:
    """Tokenize clips at the sample rate of the front end."""
    found: dict[int, Ids] = {}
    for batch in waveform_patches(waves, subject.part.front_end, batch_seconds=BATCH_SECONDS):
        tokens = subject.tokenizer.to(batch.patches.device).tokenize(batch)
        for clip, ids, valid in zip(batch.rows, tokens.by_stream.cpu(), tokens.valid.cpu(), strict=True):
            found[clip] = ids[valid].numpy()
    ordered = [found[clip] for clip in range(len(waves))]
    return ClipTokens(ordered, subject.part.front_end.bands, subject.tokenizer.codebook_size)


@torch.inference_mode()
def embed(subject: Subject, waves: Sequence[Wave]) -> npt.NDArray[np.float32] | None:
    """Average the encoder's vectors over time in each band: (clips, bands * D); None without an encoder."""
    encoder = subject.part.encoder
    if encoder is None:
        return None
    found: dict[int, Tensor] = {}
    for batch in waveform_patches(waves, subject.part.front_end, batch_seconds=BATCH_SECONDS):
        views = encoded_views(encoder.to(batch.patches.device)(batch))
        found |= zip(batch.rows, views["bands"].float().cpu(), strict=True)
    embedded: npt.NDArray[np.float32] = torch.stack([found[clip] for clip in range(len(waves))]).numpy()
    return embedded
