"""The unit of measurement: one work in one case, done by several contenders on the same inputs and weights.

Notable choices:

- A contender is created on demand, so that its process contains nothing else.
- Clips are noise, because the cost does not depend on their content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from ..core.data import AudioBatch

OURS: Final = "ossicle"
"""Prefix of the names of Ossicle's contenders."""
SAMPLE_RATE: Final = 16_000
CLIP_SECONDS: Final = 10.0
MIX: Final = "log-normal with a median of 4 s and a sigma of 0.6, cut to 1-10 s"

Precision = Literal["fp32", "bf16"]
Lengths = Literal["10 s", "mix"]


@dataclass(frozen=True)
class Case:
    """A work with the size of its model and inputs.

    Attributes:
        work: a name in `works.WORKS`
        size: size of the encoder, one of `encoders.encoder_config.SIZES`
        batch: number of clips in a batch
        lengths: `10 s` for clips of equal length, or `mix` for a mix of lengths, padded to the longest
    """

    work: str
    size: str = "base"
    batch: int = 8
    lengths: Lengths = "10 s"

    @property
    def name(self) -> str:
        clips = f"{self.batch} × 10 s" if self.lengths == "10 s" else f"{self.batch}, mixed lengths"
        return f"{self.work}, {self.size}, {clips}"

    def clips(self) -> AudioBatch:
        """Create the clips on the CPU, the longest first."""
        random = torch.Generator().manual_seed(0)
        seconds = torch.full((self.batch,), CLIP_SECONDS)
        if self.lengths == "mix":
            drawn = torch.randn(self.batch, generator=random) * 0.6 + math.log(4.0)
            seconds = drawn.exp().clamp(1.0, 10.0).sort(descending=True).values
        lengths = (seconds * SAMPLE_RATE).long()
        waveform = 0.1 * torch.randn(self.batch, int(lengths.max()), generator=random)
        past_end = torch.arange(waveform.shape[1]) >= lengths[:, None]
        return AudioBatch(waveform.masked_fill(past_end, 0.0), lengths)


@dataclass(frozen=True)
class Contender:
    """One implementation of a work.

    Attributes:
        do: runs it once
        about: description of the implementation
        precision: precision of its matrix products
        given: returns its output for the clips in evaluation mode, which is compared with the others': vectors of real
            patches (patches, D), or tokens (patches,) int64; None if there is nothing to compare
        counted_as: a contender with the same operations, if its operations cannot be counted
        trains: whether the first run allocates memory that stays, such as the moments of an optimiser
    """

    do: Callable[[], object]
    about: str
    precision: Precision = "fp32"
    given: Callable[[], Tensor] | None = None
    counted_as: str | None = None
    trains: bool = False


@dataclass(frozen=True)
class Products:
    """The shapes of a work's largest matrix products: (rows, width) x (width, hidden), and back."""

    rows: int
    width: int
    hidden: int


@dataclass(frozen=True)
class Work:
    """A work in one case.

    Attributes:
        audio_seconds: length of the processed audio without padding
        makers: functions that create the contenders, by name. The baseline is the first one that can be created and
            agrees with the reference.
        reference: the contender whose output the others must match
        products: its matrix products; None if they are only a small part of it
        remark: a note for readers of the figures
    """

    case: Case
    audio_seconds: float
    makers: Mapping[str, Callable[[], Contender]]
    reference: str
    products: Products | None = None
    remark: str = ""
