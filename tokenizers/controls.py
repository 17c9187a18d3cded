"""Controls for studies of tokenizers: tokens without information about the sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..core.build import build
from ..core.data import Grid, PatchBatch
from ..core.interfaces import Tokenizer
from .clustering import Reservoir
from .tokenizer_config import PositionConfig, ShuffledConfig

MIXING = (-0x00AE502812AA7333, -0x3B314601E57A13AD)
"""Multipliers of MurmurHash3's finaliser as signed integers. Each input bit changes about half of the output bits."""


class Position(Tokenizer):
    """Give a patch its position in the grid as token, independent of the audio.

    Args:
        bands: patches per time column
    """

    def __init__(self, config: PositionConfig, bands: int) -> None:
        super().__init__(config.columns * bands)
        self.columns = config.columns

    def forward(self, batch: PatchBatch) -> Tensor:
        position = torch.arange(batch.grid.patches, device=batch.patches.device)
        column, band = position // batch.grid.bands, position % batch.grid.bands
        return (column.clamp(max=self.columns - 1) * batch.grid.bands + band).expand(batch.valid.shape)


class Shuffled(Tokenizer):
    """Give a clip the tokens of another clip of the corpus, at the same positions.

    This keeps the frequencies of tokens, their positions and their neighbours, and breaks the link to the audio. The
    choice of the other clip depends only on the exact values of the patches. It is the same in every batch and run,
    and differs between crops.

    Args:
        patch_dim: P, numbers per patch
        bands: patches per time column
    """

    lent: Tensor
    columns: Tensor
    factors: Tensor

    def __init__(self, config: ShuffledConfig, patch_dim: int, bands: int) -> None:
        super().__init__(codebook_size=1)
        # With the same seed, the source gives the same tokens as without this wrapper.
        self.source = build(config.tokenizer, Tokenizer, seed=self.seed, patch_dim=patch_dim, bands=bands)
        self.codebook_size, self.streams = self.source.codebook_size, self.source.streams
        self.bands = bands
        # The tokens of the source clips, longest first, and their numbers of columns.
        self.register_buffer("lent", torch.zeros(config.clips, config.columns * bands, self.streams, dtype=torch.int64))
        self.register_buffer("columns", torch.zeros(config.clips, dtype=torch.int64))
        self._frames_per_patch = 1
        generator = torch.Generator().manual_seed(self.seed)
        self.register_buffer("factors", torch.randint(-(2**62), 2**62, (patch_dim,), generator=generator) | 1)

    def input_of(self, batch: PatchBatch) -> PatchBatch:
        # Only the source tokenizer normalises its input. The digest below needs bits that do not depend on the batch.
        return batch

    def forward(self, batch: PatchBatch) -> Tensor:
        lender = self._lender(batch)[:, None]  # (B, 1)
        position = torch.arange(batch.grid.patches, device=batch.patches.device)
        column = position // self.bands % self.columns[lender].clamp(min=1)  # (B, N)
        ids = self.lent[lender, column * self.bands + position % self.bands]  # (B, N, G)
        return ids[..., 0] if self.streams == 1 else ids

    def _lender(self, batch: PatchBatch) -> Tensor:
        """Choose the source clip of each clip, (B,) int64: one that is long enough, or else one of the longest."""
        wanted = torch.minimum(batch.valid.sum(1, keepdim=True) // self.bands, self.columns[:1]).clamp(min=1)
        pool = (self.columns >= wanted).sum(1).clamp(min=1)
        return self._digest(batch) % pool

    def _digest(self, batch: PatchBatch) -> Tensor:
        """Hash the bits of all real patches, (B,) int64. Integer sums do not depend on the order."""
        bits = batch.patches.float().view(torch.int32).long() * self.factors
        digest = bits.masked_fill(~batch.valid[..., None], 0).sum((1, 2))
        for factor in MIXING:
            digest = (digest ^ (digest >> 33)) * factor
        return digest >> 31

    @torch.no_grad()
    def fit(self, batches: Iterable[PatchBatch]) -> None:
        """Draw the source clips, and fit the source tokenizer if it needs to be fitted."""
        drawn: list[Tensor] = []
        stream = self._drawing(batches, drawn)
        if self.source.is_fitted:
            self.source.fit(map(self.source.input_of, stream))
        for _ in stream:
            pass
        drawn.sort(key=len, reverse=True)
        for number, patches in enumerate(drawn):
            real = patches.new_ones(1, len(patches), dtype=torch.bool)
            clip = PatchBatch(patches[None], real, self._grid(patches), frames_per_patch=self._frames_per_patch)
            tokens = self.source.tokenize(clip).by_stream[0, : self.lent.shape[1]]
            self.lent[number, : len(tokens)] = tokens
            self.columns[number] = len(tokens) // self.bands

    def _drawing(self, batches: Iterable[PatchBatch], drawn: list[Tensor]) -> Iterator[PatchBatch]:
        """Pass batches on, and store the real patches of some clips in `drawn`."""
        reservoir = Reservoir(len(self.columns), seed=self.seed)
        for batch in batches:
            self._frames_per_patch = batch.frames_per_patch
            for clip, slot in enumerate(reservoir.slots(len(batch.valid))):
                if slot < len(drawn):
                    drawn[slot] = batch.patches[clip, batch.valid[clip]]
                elif slot < reservoir.size:
                    drawn.append(batch.patches[clip, batch.valid[clip]])
            yield batch

    def _grid(self, patches: Tensor) -> Grid:
        return Grid(len(patches) // self.bands, self.bands)
