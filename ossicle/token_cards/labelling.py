"""Label drawn clips with a tokenizer, and embed them with the encoder that learnt from its labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..core.data import AudioBatch, PatchBatch
from ..core.distributed import compute_device
from ..core.interfaces import FrontEnd
from ..encoders.pooling import encoded_views
from .clips import Wave
from .sources import Subject

Ids = npt.NDArray[np.int64]

BATCH_SECONDS = 64.0


@dataclass(frozen=True)
class Labels:
    """What a tokenizer says of clips.

    Attributes:
        ids: for each clip (N, G) labels of its N real patches, time-major, in G streams
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
    def places(self) -> Ids:
        """(tokens,) the number of each token's place in its clip's grid."""
        return np.concatenate([np.arange(length) for length in self.lengths])

    def stream(self, number: int) -> list[Ids]:
        """The labels of one stream, (N,) for each clip."""
        return [np.ascontiguousarray(clip[:, number]) for clip in self.ids]

    def joined(self, number: int) -> Ids:
        """The labels of one stream for all clips in a row."""
        return np.concatenate(self.stream(number))

    def first(self, clips: int) -> Labels:
        """The same of the first so many clips alone."""
        return Labels(self.ids[:clips], self.bands, self.codebook_size)


def label(subject: Subject, waves: Sequence[Wave]) -> Labels:
    """Label clips that are given at the front end's rate."""
    found: dict[int, Ids] = {}
    for clips, batch in patch_batches(subject.part.front_end, waves):
        tokens = subject.tokenizer.to(batch.patches.device).tokenize(batch)
        streams = tokens.ids.reshape(*tokens.valid.shape, -1)  # (B, N, G)
        for clip, labels, valid in zip(clips, streams.cpu(), tokens.valid.cpu(), strict=True):
            found[clip] = labels[valid].numpy()
    ordered = [found[clip] for clip in range(len(waves))]
    return Labels(ordered, subject.part.front_end.bands, subject.tokenizer.codebook_size)


@torch.inference_mode()
def embed(subject: Subject, waves: Sequence[Wave]) -> npt.NDArray[np.float32] | None:
    """(clips, bands * D) mean of the encoder's vectors over time in each band; None where there is no encoder."""
    encoder = subject.part.encoder
    if encoder is None:
        return None
    found: dict[int, Tensor] = {}
    for clips, batch in patch_batches(subject.part.front_end, waves):
        views = encoded_views(encoder.to(batch.patches.device)(batch))
        found |= dict(zip(clips, views["bands"].float().cpu(), strict=True))
    embedded: npt.NDArray[np.float32] = torch.stack([found[clip] for clip in range(len(waves))]).numpy()
    return embedded


@torch.inference_mode()
def patch_batches(front_end: FrontEnd, waves: Sequence[Wave]) -> Iterator[tuple[list[int], PatchBatch]]:
    """Cut clips into patches, in batches of clips of like length; each batch with the numbers of its clips."""
    device = compute_device()
    front_end.to(device)
    for clips in _like_lengths(waves, BATCH_SECONDS * front_end.sample_rate):
        waveform = nn.utils.rnn.pad_sequence([torch.from_numpy(waves[clip]) for clip in clips], batch_first=True)
        batch = AudioBatch(waveform, torch.tensor([len(waves[clip]) for clip in clips]))
        batch.to(device)
        yield clips, front_end(batch)


def _like_lengths(waves: Sequence[Wave], most_samples: float) -> Iterator[list[int]]:
    batch: list[int] = []
    for clip in sorted(range(len(waves)), key=lambda clip: len(waves[clip])):
        if batch and len(waves[clip]) * (len(batch) + 1) > most_samples:
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch
