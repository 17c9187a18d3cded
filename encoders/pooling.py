"""Pool the patches or frames of a clip into one vector: the views that probes are fitted to.

Notable choices:

- Padding is masked before the sum, so even NaN in the padding has no effect.
- Sums are in float32 at any precision of the encoder.
- A clip (or a band) without real patches gives zeros.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from ..core.data import Encoded
from ..core.errors import PluginError


def encoded_views(encoded: Encoded) -> dict[str, Tensor]:
    """Pool the patches of whole clips.

    - `mean`, (B, D): the mean over all patches
    - `bands`, (B, bands * D): the mean over time in each band, bands in ascending order
    - `bands+std`, (B, 2 * bands * D): also the standard deviation over time of each band, as in the log-mel baseline

    Raises:
        PluginError: if the encoder did not return one vector per patch of the grid
    """
    sequence, valid = _by_band(encoded)
    mean = _masked_mean(sequence, valid)  # (B, bands, D)
    std = _root(_masked_mean((sequence.float() - mean.unsqueeze(2)).square(), valid))
    bands = rearrange(mean, "b band d -> b (band d)")
    return {
        "mean": pool_mean(encoded),
        "bands": bands,
        "bands+std": torch.cat([bands, rearrange(std, "b band d -> b (band d)")], dim=-1),
    }


def pool_mean(encoded: Encoded) -> Tensor:
    """Mean over the valid patches: (B, N, D) -> (B, D)."""
    return _masked_mean(encoded.sequence, encoded.valid)


def _by_band(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Split a sequence by frequency band: (B, bands, columns, D), and (B, bands, columns) bool."""
    patches = encoded.sequence.shape[1]
    if patches != encoded.grid.patches:
        raise PluginError(
            f"pooling by bands needs every patch: expected {encoded.grid.patches} vectors a clip "
            f"({encoded.grid.columns} columns x {encoded.grid.bands} bands), but the encoder gave {patches}"
        )
    bands = encoded.grid.bands
    sequence = rearrange(encoded.sequence, "b (column band) d -> b band column d", band=bands)
    return sequence, rearrange(encoded.valid, "b (column band) -> b band column", band=bands)


def pool_columns(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Mean over the frequency bands of each time column: (B, N, D) -> (B, columns, D), and (B, columns) bool."""
    sequence, valid = _by_band(encoded)
    sequence, valid = sequence.transpose(1, 2), valid.transpose(1, 2)
    return _masked_mean(sequence, valid), valid.any(dim=-1)


def log_mel_views(frames: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """Pool a spectrogram, the baseline that an encoder has to beat: `mean` (B, F) and `mean+std` (B, 2F).

    The deviation is that of the real frames themselves (divided by their number).

    Args:
        frames: (B, T, F)
        lengths: (B,) real frames of each clip
    """
    valid = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]  # (B, T)
    mean = _masked_mean(frames, valid)
    deviation = _masked_mean((frames.float() - mean[:, None]).square(), valid).sqrt()
    return {"mean": mean, "mean+std": torch.cat([mean, deviation], dim=-1)}


def _masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the last axis but one: (..., N, D), (..., N) -> (..., D) float32."""
    real = values.float().masked_fill(~valid[..., None], 0.0)
    return real.sum(dim=-2) / valid.sum(dim=-1, keepdim=True).clamp_min(1)


def _root(variance: Tensor) -> Tensor:
    """The square root, with gradient 0 where it has none, as for a clip of a single column."""
    still = variance == 0
    return variance.masked_fill(still, 1.0).sqrt().masked_fill(still, 0.0)
