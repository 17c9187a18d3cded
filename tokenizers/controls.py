"""Labels that hold nothing worth learning: the controls that a study of tokenizers should carry."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.data import PatchBatch
from ..core.interfaces import Tokenizer
from .settings import PlaceConfig


class Place(Tokenizer):
    """Label a patch by its place in the grid alone, whatever it sounds like.

    Args:
        bands: patches per time column
    """

    def __init__(self, config: PlaceConfig, bands: int) -> None:
        super().__init__(config.columns * bands)
        self.columns = config.columns

    def forward(self, batch: PatchBatch) -> Tensor:
        place = torch.arange(batch.grid.patches, device=batch.patches.device)
        column, band = place // batch.grid.bands, place % batch.grid.bands
        return (column.clamp(max=self.columns - 1) * batch.grid.bands + band).expand(batch.valid.shape)
