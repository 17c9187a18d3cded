"""Augment training clips as spectrogram frames: roll, mixup, SpecAugment.

Notable choices:

- A clip's random numbers depend only on its draw, so they are the same however clips are spread over processes. Only
  mixup reads other clips of the batch.
- Frames after the end of a clip never change.
- Masked values become the mean of the clip over all its frames and mel bins, which is about zero after normalisation by
  the front end (SpecAugment, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ..core.data import SpectrogramBatch

_PURPOSE: Final = 1
"""Separates these random numbers from others that are derived from the same draws."""

Generators = list[np.random.Generator]


@dataclass(frozen=True)
class Mixture:
    """Mixed clips, and the partner of each.

    Attributes:
        frames: (B, T, F) mixed frames
        partner: (B,) int64, index of the clip that was mixed into each
        share: (B,) float32 in [0, 1], share of the partner in the mixed clip
    """

    frames: Tensor
    partner: Tensor
    share: Tensor


def generators(batch: SpectrogramBatch) -> Generators:
    """Create a random generator for each clip from its draw, or from torch's global generator if there are no draws."""
    draws = batch.draws
    if draws is None:
        draws = torch.randint(2**63 - 1, (len(batch.frames),))
    return [np.random.default_rng((_PURPOSE, draw)) for draw in draws.tolist()]


def roll(frames: Tensor, lengths: Tensor, random: Generators) -> Tensor:
    """Roll each clip in time by a random number of frames, drawn uniformly below its length.

    Args:
        frames: (B, T, F)
        lengths: (B,) int64, real frames of each clip
    """
    shifts = [generator.integers(max(1, length)) for generator, length in zip(random, lengths.tolist(), strict=True)]
    shift = torch.tensor(np.array(shifts), device=frames.device)
    time = torch.arange(frames.shape[1], device=frames.device).expand(len(frames), -1)
    rolled = (time - shift[:, None]) % lengths.clamp(min=1)[:, None]
    source = torch.where(_real(frames, lengths), rolled, time)  # (B, T)
    return frames.gather(1, source[..., None].expand_as(frames))


def mix(frames: Tensor, lengths: Tensor, alpha: float, random: Generators) -> Mixture:
    """Mix each clip with the one that follows it in a random order of the batch (Zhang et al., 2018).

    A clip keeps its length. After the end of a shorter partner it stays unchanged, and the partner's share is lower.

    Args:
        frames: (B, T, F)
        lengths: (B,) int64, real frames of each clip
        alpha: the partner's share, in frames that both clips have, is drawn from Beta(alpha, alpha)
    """
    drawn = np.array([(generator.random(), generator.beta(alpha, alpha)) for generator in random])
    order = np.argsort(drawn[:, 0])
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -1)
    partner_of = torch.from_numpy(partner).to(frames.device)
    share = torch.from_numpy(drawn[:, 1]).to(frames)
    both = _real(frames, lengths) & _real(frames, lengths[partner_of])
    mixed = torch.where(both[..., None], torch.lerp(frames, frames[partner_of], share[:, None, None]), frames)
    return Mixture(mixed, partner_of, share * both.sum(1) / lengths.clamp(min=1))


def mask_time(frames: Tensor, lengths: Tensor, count: int, longest: float, random: Generators) -> Tensor:
    """Mask stretches of time whose lengths are drawn uniformly from 0 to a share of the clip (SpecAugment).

    Args:
        frames: (B, T, F)
        lengths: (B,) int64, real frames of each clip
        count: number of stretches in each clip
        longest: the share, in [0, 1]
    """
    masked = _stretches(lengths.tolist(), frames.shape[1], count, longest, random).to(frames.device)  # (B, T)
    return _masked(frames, lengths, masked[..., None])


def mask_frequency(frames: Tensor, lengths: Tensor, count: int, widest: float, random: Generators) -> Tensor:
    """Mask ranges of mel bins, as `mask_time` masks stretches of time."""
    bins = frames.shape[2]
    masked = _stretches([bins] * len(frames), bins, count, widest, random).to(frames.device)  # (B, F)
    return _masked(frames, lengths, masked[:, None])


def _real(frames: Tensor, lengths: Tensor) -> Tensor:
    """Compute which frames are real: (B, T) bool, False after the end of a clip."""
    return torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]


def _stretches(lengths: list[int], size: int, count: int, longest: float, random: Generators) -> Tensor:
    """Draw a mask: (B, size) bool, True in `count` random stretches within each length."""
    masked = np.zeros((len(lengths), size), dtype=np.bool_)
    for row, (length, generator) in enumerate(zip(lengths, random, strict=True)):
        for _ in range(count):
            width = generator.integers(int(longest * length) + 1)
            start = generator.integers(length - width + 1)
            masked[row, start : start + width] = True
    return torch.from_numpy(masked)


def _masked(frames: Tensor, lengths: Tensor, masked: Tensor) -> Tensor:
    real = _real(frames, lengths)[..., None]
    total = frames.masked_fill(~real, 0.0).sum((1, 2), keepdim=True)
    mean = total / (lengths.clamp(min=1)[:, None, None] * frames.shape[2])
    return torch.where(masked & real, mean, frames)
