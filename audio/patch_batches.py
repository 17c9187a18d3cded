"""From clips to batches of patches on a device: the loop that every pass over a corpus uses.

Notable choices:

- Spectrograms are computed in the data pipeline's threads, and normalised and cut into patches on the device.
- Gradients are neither enabled nor disabled. Patches are computed in the mode in which the caller iterates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..core.data import AudioBatch, PatchBatch, SpectrogramBatch
from ..core.distributed import compute_device
from ..core.interfaces import FrontEnd
from ..core.manifest import Manifest
from .pipeline import clip_batches, ends_of_batches


def patch_batches(
    manifest: Manifest,
    rows: npt.NDArray[np.int64],
    front_end: FrontEnd,
    *,
    batch_seconds: float,
    crop_seconds: float,
    device: torch.device | None = None,
    keep_spectrogram: bool = False,
) -> Iterator[PatchBatch]:
    """Iterate once over clips of a corpus, shortest first, in batches of patches.

    `PatchBatch.rows` lists the clips of a batch. Clips that cannot be read are reported and left out.

    Args:
        manifest: the corpus
        rows: (clips,) the rows of `manifest` to read
        front_end: moved to `device`
        batch_seconds: audio in a batch, padding included, in seconds. A batch has at least one clip.
        crop_seconds: only the first `crop_seconds` of longer clips are used
        device: device of the batches; the compute device of this process by default
        keep_spectrogram: also keep the frames of each batch, as `PatchBatch.spectrogram`

    Example:
        >>> for batch in patch_batches(manifest, rows, front_end, batch_seconds=64.0, crop_seconds=10.0):
        ...     encoded = encoder(batch)  # (B, N, D)
        ...     found |= dict(zip(batch.rows, pool_mean(encoded), strict=True))
    """
    clips = clip_batches(manifest, rows, front_end, batch_seconds=batch_seconds, crop_seconds=crop_seconds)
    return patches_of(clips, front_end, device=device, keep_spectrogram=keep_spectrogram)


def patches_of(
    spectrograms: Iterable[SpectrogramBatch],
    front_end: FrontEnd,
    *,
    device: torch.device | None = None,
    keep_spectrogram: bool = False,
) -> Iterator[PatchBatch]:
    """Cut a stream of spectrograms into patches, batch by batch.

    Args:
        spectrograms: from `pipeline.clip_batches` or `pipeline.training_pipeline`; moved to `device`
        front_end, device, keep_spectrogram: as in `patch_batches`
    """
    device = device or compute_device()
    front_end.to(device)
    for batch in spectrograms:
        batch.to(device)
        patches = front_end.patches(batch)
        yield replace(patches, spectrogram=batch) if keep_spectrogram else patches


def waveform_patches(
    waveforms: Sequence[npt.NDArray[np.float32]],
    front_end: FrontEnd,
    *,
    batch_seconds: float,
    device: torch.device | None = None,
) -> Iterator[PatchBatch]:
    """Iterate once over clips in memory, shortest first, in batches of patches.

    `PatchBatch.rows` lists the indices of a batch's clips in `waveforms`.

    Args:
        waveforms: (S,) each, at the front end's rate
        front_end, batch_seconds, device: as in `patch_batches`
    """
    device = device or compute_device()
    front_end.to(device)
    seconds = np.array([len(waveform) for waveform in waveforms]) / front_end.sample_rate
    order = np.argsort(seconds, kind="stable")
    for start, end in pairwise([0, *ends_of_batches(seconds[order], batch_seconds)]):
        clips = order[start:end]
        batch = pad_waveforms([waveforms[clip] for clip in clips])
        batch.to(device)
        patches: PatchBatch = front_end(batch)
        yield replace(patches, clips=torch.from_numpy(clips).to(device))


def pad_waveforms(waveforms: Sequence[npt.NDArray[np.float32]]) -> AudioBatch:
    """Pad clips, (S,) each, with zeros to the longest."""
    padded = nn.utils.rnn.pad_sequence([torch.from_numpy(waveform) for waveform in waveforms], batch_first=True)
    return AudioBatch(padded, torch.tensor([len(waveform) for waveform in waveforms]))
