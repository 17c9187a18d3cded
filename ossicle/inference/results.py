"""Results of trained parts for clips, and how the results of consecutive windows of a clip are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class Embedding:
    """Embeddings of B clips.

    Attributes:
        clip: (B, D) mean over each clip's valid patches
        sequence: (B, N, D) one vector per patch, time-major
        valid: (B, N) bool, False where a patch is padding
        frames: (B, T′, D) mean over the frequency bands of each time column
        frames_valid: (B, T′) bool
        times: (T′, 2) start and end of each column in seconds
        layers: the input of the first layer and the output of each layer, (B, N, D); empty unless requested
    """

    clip: Tensor
    sequence: Tensor
    valid: Tensor
    frames: Tensor
    frames_valid: Tensor
    times: Tensor
    layers: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Tokens:
    """Tokens of B clips.

    Attributes:
        ids: (B, N) int64 in [0, K), time-major; (B, N, G) if the tokenizer gives a patch several tokens
        valid: (B, N) bool, False where a patch is padding
        times: (T′, 2) start and end of each time column in seconds
        bands: (bands, 2) lower and upper edge of each frequency band in Hz
        codebook_size: number of codes, K
    """

    ids: Tensor
    valid: Tensor
    times: Tensor
    bands: Tensor
    codebook_size: int


@dataclass(frozen=True)
class Classes:
    """Class probabilities of B clips.

    Attributes:
        probabilities: (B, classes)
        labels: the name of each class
    """

    probabilities: Tensor
    labels: tuple[str, ...]


Result = TypeVar("Result", Embedding, Tokens)


def in_sequence(stretches: Sequence[Result]) -> Result:
    """Join the results of consecutive windows of one clip along time."""
    first = stretches[0]
    if len(stretches) == 1:
        return first
    along_time: dict[str, Any] = {
        item.name: torch.cat([getattr(stretch, item.name) for stretch in stretches], dim=1)
        for item in fields(first)
        if item.name in ("sequence", "valid", "frames", "frames_valid", "ids")
    }
    times = torch.cat([stretch.times for stretch in stretches])
    if isinstance(first, Tokens):
        return replace(first, times=times, **along_time)
    weights = torch.stack([stretch.valid.sum() for stretch in stretches])
    clips = torch.stack([stretch.clip for stretch in stretches])  # (stretches, 1, D)
    mean = (weights[:, None, None] * clips).sum(0) / weights.sum()
    layers = tuple(torch.cat(parts, dim=1) for parts in zip(*(stretch.layers for stretch in stretches), strict=True))
    return replace(first, clip=mean, times=times, layers=layers, **along_time)


def side_by_side(clips: Sequence[Result]) -> Result:
    """Combine the results of single clips into one batch, padded to the longest."""
    first = clips[0]
    if len(clips) == 1:
        return first
    padded: dict[str, Any] = {
        item.name: pad_sequence([getattr(clip, item.name)[0] for clip in clips], batch_first=True)
        for item in fields(first)
        if item.name in ("clip", "sequence", "valid", "frames", "frames_valid", "ids")
    }
    times = max((clip.times for clip in clips), key=len)
    if isinstance(first, Tokens):
        return replace(first, times=times, **padded)
    layers = (
        pad_sequence([layer[0] for layer in layers], batch_first=True)
        for layers in zip(*(clip.layers for clip in clips), strict=True)
    )
    return replace(first, times=times, layers=tuple(layers), **padded)
