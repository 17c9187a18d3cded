"""The data that parts exchange.

Shapes: B clips, S samples, T frames, F mel bins, N patches, V visible patches, D width, K codebook size, G streams of
tokens. Patches are numbered time-major: patch `column * bands + band`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from .errors import PluginError


class Grid(NamedTuple):
    """The layout of a clip's patches: `columns` steps in time, each of `bands` frequency bands."""

    columns: int
    bands: int

    @property
    def patches(self) -> int:
        return self.columns * self.bands


class _Movable:
    """A batch that fairseq2 can move: `to` works in place."""

    def to(self, device: torch.device, *, non_blocking: bool = False) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                setattr(self, item.name, value.to(device, non_blocking=non_blocking))
            elif isinstance(value, _Movable):
                value.to(device, non_blocking=non_blocking)


@dataclass
class AudioBatch(_Movable):
    """Waveforms at the front end's rate.

    Attributes:
        waveform: (B, S) float32 in [-1, 1], zero after each clip's end
        lengths: (B,) int64, samples of each clip
    """

    waveform: Tensor
    lengths: Tensor


@dataclass
class SpectrogramBatch(_Movable):
    """Time-frequency frames before normalisation.

    Attributes:
        frames: (B, T, F) float32; values after the end of a clip are ignored
        lengths: (B,) int64, real frames of each clip
        samples: (B,) int64, real samples of each clip
        clips: (B,) int64, the clips' numbers in their manifest
        labels: (B,) int64 classes, (B, classes) float32 for several labels a clip, or None
        draws: (B,) int64, a random number for each appearance of a clip in training, independent of how the clips are
            distributed over processes; None outside training
    """

    frames: Tensor
    lengths: Tensor
    samples: Tensor
    clips: Tensor | None = None
    labels: Tensor | None = None
    draws: Tensor | None = None


@dataclass
class PatchBatch(_Movable):
    """Patches of the normalised spectrogram, the input of tokenizers and encoders.

    Attributes:
        patches: (B, N, P) float32; row-major within a patch, time before frequency
        valid: (B, N) bool, False where a patch is padding
        grid: the layout of the N patches
        front_end: fingerprint of the front end and its statistics
        clips: (B,) int64, the clips' numbers in their manifest
        labels: as in `SpectrogramBatch`
        seconds: real audio in the batch, in seconds
        draws: as in `SpectrogramBatch`
        spectrogram: the frames that the patches were cut from, on request
        frames_per_patch: p, where a patch is p frames of P / p mel bins; 1 if it has another layout
    """

    patches: Tensor
    valid: Tensor
    grid: Grid
    front_end: str = ""
    clips: Tensor | None = None
    labels: Tensor | None = None
    seconds: float = 0.0
    draws: Tensor | None = None
    spectrogram: SpectrogramBatch | None = None
    frames_per_patch: int = 1

    def normalized(self, *, deviation: bool) -> PatchBatch:
        """Return a copy in which every mel bin of every clip has a mean of zero over the clip's real patches.

        Args:
            deviation: also divide by the standard deviation, or by a hundredth of the clip's largest one if that is
                more, so that silent bins stay small
        """
        split = {"f": self.grid.bands, "p": self.frames_per_patch}
        frames = rearrange(self.patches, "b (t f) (p q) -> b (t p) (f q)", **split)
        real = repeat(self.valid[:, :: self.grid.bands], "b t -> b (t p) 1", p=self.frames_per_patch)
        count = real.sum(1, keepdim=True).clamp(min=1)
        frames = frames - (frames * real).sum(1, keepdim=True) / count
        if deviation:
            std = ((frames.square() * real).sum(1, keepdim=True) / count).sqrt()
            frames = frames / std.clamp(min=0.01 * std.amax(-1, keepdim=True)).clamp(min=1e-6)
        return replace(self, patches=rearrange(frames * real, "b (t p) (f q) -> b (t f) (p q)", **split))

    @property
    def rows(self) -> list[int]:
        """`clips` as Python integers.

        Raises:
            PluginError: if the front end did not set them
        """
        if self.clips is None:
            raise PluginError("these patches have no `clips`: let `FrontEnd.patches` copy them from the frames' batch")
        return self.clips.tolist()


@dataclass
class VisiblePatches(_Movable):
    """The patches that an encoder sees. The others are hidden.

    Attributes:
        index: (B, V) int64, the true position of each visible patch in the grid, ascending; padding repeats position 0
        valid: (B, V) bool, False where `index` is padding
    """

    index: Tensor
    valid: Tensor


@dataclass
class TokenBatch(_Movable):
    """Tokens of patches.

    Attributes:
        ids: (B, N) int64 in [0, K); (B, N, G) from a tokenizer with several streams
        valid: (B, N) bool
    """

    ids: Tensor
    valid: Tensor

    @property
    def by_stream(self) -> Tensor:
        """The ids as (B, N, G), also if G is 1."""
        return self.ids.unsqueeze(-1) if self.ids.dim() == 2 else self.ids


@dataclass
class Encoded(_Movable):
    """An encoder's output.

    Attributes:
        sequence: (B, N, D), or (B, V, D) when only visible patches were encoded
        valid: (B, N) or (B, V) bool
        grid: the layout of the N patches
        layers: the input of the first layer and the output of each layer, shaped like `sequence`; empty unless the
            caller requests them
    """

    sequence: Tensor
    valid: Tensor
    grid: Grid
    layers: Sequence[Tensor] = field(default_factory=tuple)
