"""What is measured: one work in one case, done by several contenders on the same inputs and weights.

Notable choices: a contender is made when it is asked for, so that a process of its own can hold nothing else; clips are
noise, for what is computed does not depend on what they sound like.
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
"""What the names of our contenders begin with."""
SAMPLE_RATE: Final = 16_000
CLIP_SECONDS: Final = 10.0
MIX: Final = "log-normal with a median of 4 s and a sigma of 0.6, cut to 1-10 s"

Precision = Literal["fp32", "bf16"]
Lengths = Literal["10 s", "mix"]


@dataclass(frozen=True)
class Case:
    """What a work is done on.

    Attributes:
        work: a name among `works.WORKS`
        size: of the encoder, one of `encoders.encoder_config.SIZES`
        batch: clips at once
        lengths: all clips of 10 s, or a mix of lengths, padded to the longest
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
        """The clips on the CPU, the longest first."""
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
    """One way to do a work.

    Attributes:
        do: does it once
        about: what exactly that consists of
        precision: of its matrix products
        given: what it gives for the clips, in evaluation mode, to be held against the others': vectors of real patches
            (patches, D), or labels (patches,) int64; None where there is nothing to compare
        counted_as: the contender whose operations it does, where its own cannot be counted
        trains: whether the first time leaves more behind than what it gives, as an optimiser's moments
    """

    do: Callable[[], object]
    about: str
    precision: Precision = "fp32"
    given: Callable[[], Tensor] | None = None
    counted_as: str | None = None
    trains: bool = False


@dataclass(frozen=True)
class Products:
    """The matrix products that most of a work consists of: (rows, width) x (width, hidden), and back."""

    rows: int
    width: int
    hidden: int


@dataclass(frozen=True)
class Work:
    """A work in one case.

    Attributes:
        audio_seconds: real audio that it deals with
        makers: make the contenders, by name; the first that can be made and agrees is what the others are compared with
        reference: the contender whose outputs the others must give
        products: None where there are none to speak of
        remark: what a reader of the figures must know
    """

    case: Case
    audio_seconds: float
    makers: Mapping[str, Callable[[], Contender]]
    reference: str
    products: Products | None = None
    remark: str = ""
