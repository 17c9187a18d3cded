"""A guess of tokens from the level of a clip, to recognise a pre-training that has learnt nothing else.

Tokens of random projection depend strongly on the level and the frequency band of a patch. At first, masked prediction
learns only this, and its loss stays on a plateau. An encoder from that plateau is not better than an untrained one.

Notable choices:

- The guess is Bayes' rule with one Gaussian per band and token, because its running sums need no gradients and no
  hyperparameters to tune.
- Each batch is scored before it is learnt from, so the loss is not optimistic.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from ...core.data import PatchBatch
from ...core.distributed import sum_over_ranks

_MEMORY = 0.999
"""Weight of the old sums after a batch."""
_PRIOR = 1.0
"""Vectors with the statistics of the whole band that are added to those of each token."""


class LevelGuess(nn.Module):
    """Guess hidden tokens from the band and the mean of the clip's visible patches in that band.

    Args:
        bands: patches per time column
        streams, codebook_size: of the tokenizer
    """

    sums: Tensor

    def __init__(self, bands: int, streams: int, codebook_size: int) -> None:
        super().__init__()
        self.bands = bands
        # For each band, stream and token: the number of patches, and the sums of the level and of its square.
        self.register_buffer("sums", torch.zeros(3, bands, streams, codebook_size))

    @torch.no_grad()
    def forward(self, batch: PatchBatch, tokens: Tensor, hidden: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross-entropy of the guess, summed over hidden patches, the mean over streams. Then learn.

        Args:
            tokens: (B, N, G) int64
            hidden: (B, N) bool
        """
        level = self._level(batch, hidden)  # (B, bands)
        scores = self._log_probabilities(level)  # (B, bands, G, K)
        band = torch.arange(tokens.shape[1], device=tokens.device) % self.bands
        found = scores[:, band].gather(-1, tokens[..., None])[..., 0]  # (B, N, G)
        cost = (1 - label_smoothing) * found
        if label_smoothing:
            cost = cost + label_smoothing * scores.mean(-1)[:, band]
        total = -(cost.mean(-1) * hidden).sum()
        if self.training:
            self._learn(level, tokens, hidden)
        return total

    def _level(self, batch: PatchBatch, hidden: Tensor) -> Tensor:
        """Average the visible patches of each band, or all visible ones if a band has none: (B, bands)."""
        seen = rearrange((batch.valid & ~hidden).float(), "b (t f) -> b t f", f=self.bands)
        value = rearrange(batch.patches.mean(-1), "b (t f) -> b t f", f=self.bands)
        total, count = (value * seen).sum(1), seen.sum(1)
        whole = total.sum(1, keepdim=True) / count.sum(1, keepdim=True).clamp(min=1)
        return torch.where(count > 0, total / count.clamp(min=1), whole)

    def _log_probabilities(self, level: Tensor) -> Tensor:
        count, total, square = self.sums
        in_band = self.sums.sum(-1, keepdim=True)  # (3, bands, G, 1)
        n, band_mean = in_band[0].clamp(min=1e-6), in_band[1] / in_band[0].clamp(min=1e-6)
        band_variance = (in_band[2] / n - band_mean.square()).clamp(min=1e-4)
        mean = (total + _PRIOR * band_mean) / (count + _PRIOR)
        second = (square + _PRIOR * (band_variance + band_mean.square())) / (count + _PRIOR)
        variance = (second - mean.square()).clamp(min=1e-4)
        prior = (count + _PRIOR / self.sums.shape[-1]).log()
        distance = (level[..., None, None] - mean).square() / variance
        density: Tensor = prior - 0.5 * (distance + variance.log() + math.log(2 * math.pi))
        return density.log_softmax(-1)

    def _learn(self, level: Tensor, tokens: Tensor, hidden: Tensor) -> None:
        _, bands, streams, size = self.sums.shape
        band = torch.arange(tokens.shape[1], device=tokens.device) % bands
        own = level[:, band]  # (B, N)
        weights = torch.stack([torch.ones_like(own), own, own.square()]) * hidden  # (3, B, N)
        cell = (band[:, None] * streams + torch.arange(streams, device=tokens.device)) * size + tokens  # (B, N, G)
        added = torch.zeros_like(self.sums).flatten(1)
        added.scatter_add_(1, cell.flatten().expand(3, -1), weights[..., None].expand(-1, -1, -1, streams).flatten(1))
        sum_over_ranks(added)
        self.sums.mul_(_MEMORY).add_(added.view_as(self.sums))
