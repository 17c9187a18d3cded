"""The Kaldi filter-bank front end of BEATs: compute filter banks, normalise, cut into patches.

Notable choices:

- Frames come from fairseq2's native converter (Kaldi's defaults: 25 ms Povey window, 10 ms shift, no dither).
- A patch is real if all frames of its time column are real, so a clip has the same patches alone and in a batch. The
  masks of the released code include some padding. `padding: released` reproduces them, only to compare with that code.
- A clip that is shorter than one column is padded to one with zeros. The released code fails for such clips.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Hashable
from typing import Any, Final

import soundfile as _soundfile  # noqa: F401  fairseq2 finds libsndfile only when soundfile was imported before it
import torch
from einops import rearrange, reduce, repeat
from fairseq2.data.audio import WaveformToFbankConverter
from torch import Tensor, nn

from ..core.data import AudioBatch, Grid, PatchBatch, SpectrogramBatch
from ..core.errors import ConfigError, PluginError, Problem
from ..core.interfaces import FrontEnd
from .front_end_config import AUDIOSET_MEAN, AUDIOSET_STD, EXTRACTION_ONLY, KaldiFbankConfig

_WINDOW_S: Final = 0.025
_HOP_S: Final = 0.010
_LOWEST_HZ: Final = 20.0


class KaldiFbank(FrontEnd):
    """Patches of a normalised log mel spectrogram (BEATs, section 4.2; released code).

    Values are (fbank - mean) / (2 * std), about N(0, 0.5²). Until `set_statistics` is called, AudioSet's statistics are
    used where the configuration states none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: KaldiFbankConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.bands = config.bands
        self.patch_dim = config.patch_dim
        self.hop_seconds = _HOP_S
        self.min_samples = round(_WINDOW_S * config.sample_rate)
        shape = (config.mel_bins,) if config.per_bin else ()
        self.register_buffer("mean", torch.full(shape, AUDIOSET_MEAN if config.mean is None else config.mean))
        self.register_buffer("std", torch.full(shape, AUDIOSET_STD if config.std is None else config.std))
        self._known_fingerprint: str | None = None
        self.register_load_state_dict_post_hook(_forget_fingerprint)  # type: ignore[no-untyped-call]

    @property
    def transform(self) -> Callable[[Tensor], Tensor]:
        # A converter works only for the first sample rate that it gets, so it must not be shared.
        converter = WaveformToFbankConverter(
            num_mel_bins=self.config.mel_bins, waveform_scale=2**15, channel_last=True, keep_waveform=True
        )
        rate = float(self.sample_rate)

        def frames(waveform: Tensor) -> Tensor:
            clip = converter({"waveform": waveform.detach().cpu().unsqueeze(1), "sample_rate": rate})
            return clip["fbank"].to(waveform.device)

        # The first call fills the converter's Fourier tables, and threads that compute frames of one clip race for
        # them: with fairseq2n 0.8.1, the first clip of about one converter in thirty is wrong. A clip of a single frame
        # uses a single thread.
        frames(torch.zeros(self.min_samples))
        return frames

    @property
    def frames_key(self) -> Hashable | None:
        # A subclass may compute other frames, so it must define its key.
        return (self.revision, self.config.mel_bins) if type(self) is KaldiFbank else None

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics of a corpus, each (F,), except those that the configuration states.

        Without `per_bin` they are pooled to the overall mean and the standard deviation over all bins.

        Raises:
            PluginError: if a statistic has another shape
        """
        expected = (self.config.mel_bins,)
        if mean.shape != expected or std.shape != expected:
            raise PluginError(
                f"`mean` and `std` must have shape {expected}, but have {tuple(mean.shape)} and {tuple(std.shape)}"
            )
        mean, std = mean.double(), std.double()
        pooled_mean = mean.mean()
        pooled_std = (std.square().mean() + mean.var(correction=0)).sqrt()
        if self.config.per_bin:
            # Quiet bins must not become loud: bin 3 of 128 is empty, and the bins above the band limit of resampled
            # recordings hold only residue.
            std = std.clamp(min=max(float(std.median()) / 2, 0.01 * float(pooled_std)))
        else:
            mean, std = pooled_mean, pooled_std
        if self.config.mean is None:
            self.mean.copy_(mean)
        if self.config.std is None:
            self.std.copy_(std)
        self._known_fingerprint = None

    def fingerprint(self) -> str:
        if self._known_fingerprint is None:
            self._known_fingerprint = self._hash()
        return self._known_fingerprint

    def _hash(self) -> str:
        settings = {
            "front_end": type(self).__name__,
            "revision": self.revision,
            **self.config.model_dump(include={"mel_bins", "patch_frames", "patch_bins", "padding"}),
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for statistic in (self.mean, self.std):
            digest.update(statistic.detach().cpu().float().expand(self.config.mel_bins).numpy().tobytes())
        return digest.hexdigest()

    def patches(self, batch: SpectrogramBatch) -> PatchBatch:
        """Normalise frames and cut them into patches.

        Raises:
            ConfigError: with `padding: released`, whose masks need the padded waveforms
        """
        if self.config.padding == "released":
            message = f"{EXTRACTION_ONLY}, or call the front end on an `AudioBatch`"
            raise ConfigError([Problem("front_end.padding", message)])
        size = self.config.patch_frames
        columns = batch.lengths // size
        # A clip that does not fill a column keeps its frames. Longer clips drop the frames after the last full column.
        kept = torch.where(columns > 0, columns * size, batch.lengths)
        real = torch.arange(batch.frames.shape[1], device=batch.frames.device) < kept[:, None]  # (B, T)
        patches, grid = self._cut(batch.frames, real)
        column = torch.arange(grid.columns, device=columns.device)
        valid = repeat(column < columns.clamp(min=1)[:, None], "b t -> b (t f)", f=grid.bands)
        seconds = float(batch.samples.sum()) / self.sample_rate
        return PatchBatch(
            patches,
            valid,
            grid,
            self.fingerprint(),
            batch.clips,
            batch.labels,
            seconds,
            batch.draws,
            frames_per_patch=self.config.patch_frames,
        )

    def forward(self, batch: AudioBatch) -> PatchBatch:
        """Cut waveforms into patches. Only real samples of each clip are used, unless `padding` is `released`."""
        if self.config.padding == "exact":
            return super().forward(batch)
        transform = self.transform
        frames = torch.stack([self.spectrogram(wave, transform=transform) for wave in batch.waveform])  # (B, T, F)
        patches, grid = self._cut(frames, torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device))
        real = torch.arange(batch.waveform.shape[1], device=frames.device) < batch.lengths[:, None]  # (B, S)
        valid = _any_of_groups(_any_of_groups(real, frames.shape[1]), grid.patches)
        # The released code returns NaN for a clip without real patches.
        valid[:, : grid.bands] |= ~valid.any(dim=1, keepdim=True)
        seconds = float(batch.lengths.sum()) / self.sample_rate
        return PatchBatch(
            patches,
            valid,
            grid,
            self.fingerprint(),
            seconds=seconds,
            frames_per_patch=self.config.patch_frames,
        )

    def _cut(self, frames: Tensor, real: Tensor) -> tuple[Tensor, Grid]:
        """Normalise, set padding to zero, and cut: (B, T, F), (B, T) to (B, N, P)."""
        size = self.config.patch_frames
        normal = ((frames - self.mean) / (2 * self.std)).masked_fill(~real[..., None], 0.0)
        columns = max(1, frames.shape[1] // size)
        missing = columns * size - frames.shape[1]
        normal = nn.functional.pad(normal, (0, 0, 0, max(0, missing)))[:, : columns * size]
        patches = rearrange(normal, "b (t p) (f q) -> b (t f) (p q)", p=size, q=self.config.patch_bins)
        return patches, Grid(columns, self.bands)

    def column_times(self, columns: int) -> Tensor:
        first = torch.arange(columns, dtype=torch.float64) * self.config.patch_frames
        last = first + self.config.patch_frames - 1
        return torch.stack([first * _HOP_S, last * _HOP_S + _WINDOW_S], dim=1)

    def band_edges(self) -> Tensor:
        lowest, highest = _mel(_LOWEST_HZ), _mel(self.sample_rate / 2)
        step = (highest - lowest) / (self.config.mel_bins + 1)
        first = torch.arange(self.bands, dtype=torch.float64) * self.config.patch_bins
        # Filter i is a triangle from step i to step i + 2.
        mel = lowest + step * torch.stack([first, first + self.config.patch_bins + 1], dim=1)
        return 700.0 * ((mel / 1127.0).exp() - 1.0)


def _mel(hertz: float) -> float:
    return 1127.0 * math.log(1.0 + hertz / 700.0)


def _any_of_groups(mask: Tensor, groups: int) -> Tensor:
    """Reduce a mask as the released code does: drop the remainder, (B, n) to (B, groups), true where any is true."""
    size = mask.shape[1] // groups
    if size == 0:  # the clip is shorter than the released code allows
        return mask.any(dim=1, keepdim=True).repeat(1, groups)
    return reduce(mask[:, : groups * size], "b (n k) -> b n", "any", k=size)


def _forget_fingerprint(module: nn.Module, _: Any) -> None:
    if isinstance(module, KaldiFbank):
        module._known_fingerprint = None
