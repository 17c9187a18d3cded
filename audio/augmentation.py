"""Change training clips as spectrogram frames: roll, mixup, SpecAugment.

Notable choices: a clip's random numbers come from its draw alone, so that they are the same however clips are spread
over processes; only mixup looks at the other clips of the batch. Nothing is ever written behind a clip's end. What is
masked becomes the clip's mean over all its frames and mel bins, which is about zero once the front end has normalised
(SpecAugment, section 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ..core.data import SpectrogramBatch

_PURPOSE: Final = 1
"""Keeps these numbers apart from others that are derived from the same draws."""

Generators = list[np.random.Generator]


@dataclass(frozen=True)
class Mixture:
    """Which clips were mixed, and how much of each.

    Attributes:
        frames: (B, T, F) the mixed frames
        partner: (B,) int64, the clip that was mixed into each
        share: (B,) float32 in [0, 1], how much of the mixed clip is its partner
    """

    frames: Tensor
    partner: Tensor
    share: Tensor


def generators(batch: SpectrogramBatch) -> Generators:
    """A random generator for each clip, from its draw; from torch's global generator where there are none."""
    draws = batch.draws
    if draws is None:
        draws = torch.randint(2**63 - 1, (len(batch.frames),))
    return [np.random.default_rng((_PURPOSE, draw)) for draw in draws.tolist()]


def roll(frames: Tensor, lengths: Tensor, random: Generators) -> Tensor:
    """Turn each clip by a random number of frames, drawn uniformly below its length.

    Args:
        frames: (B, T, F)
        lengths: (B,) int64, real frames of each clip
    """
    shifts = [generator.integers(max(1, length)) for generator, length in zip(random, lengths.tolist(), strict=True)]
    shift = torch.tensor(np.array(shifts), device=frames.device)
    time = torch.arange(frames.shape[1], device=frames.device).expand(len(frames), -1)
    turned = (time - shift[:, None]) % lengths.clamp(min=1)[:, None]
    source = torch.where(_real(frames, lengths), turned, time)  # (B, T)
    return frames.gather(1, source[..., None].expand_as(frames))


def mix(frames: Tensor, lengths: Tensor, alpha: float, random: Generators) -> Mixture:
    """Mix each clip with the one that follows it in a random order of the batch (Zhang et al., 2018).

    A clip keeps its length: where its partner is shorter, the rest stays as it is, and the partner's share is less.

    Args:
        frames: (B, T, F)
        lengths: (B,) int64, real frames of each clip
        alpha: the partner's share where both sound is drawn from Beta(alpha, alpha)
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
    """Mask stretches of time, their length drawn uniformly from 0 to a share of the clip's (SpecAugment).

    Args:
        frames: (B, T, F)
        lengths: (B,) int64, real frames of each clip
        count: stretches for each clip
        longest: the share, in [0, 1]
    """
    masked = _stretches(lengths.tolist(), frames.shape[1], count, longest, random).to(frames.device)  # (B, T)
    return _masked(frames, lengths, masked[..., None])


def mask_frequency(frames: Tensor, lengths: Tensor, count: int, widest: float, random: Generators) -> Tensor:
    """Mask ranges of mel bins, as `mask_time` does stretches of time."""
    bins = frames.shape[2]
    masked = _stretches([bins] * len(frames), bins, count, widest, random).to(frames.device)  # (B, F)
    return _masked(frames, lengths, masked[:, None])


def _real(frames: Tensor, lengths: Tensor) -> Tensor:
    """(B, T) bool, False behind a clip's end."""
    return torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]


def _stretches(lengths: list[int], size: int, count: int, longest: float, random: Generators) -> Tensor:
    """(B, size) bool, True in `count` stretches within each length."""
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
