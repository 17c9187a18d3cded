"""A classifier of a clip's bands, each pooled over time: what a plain mean over all patches throws away, it keeps."""

from __future__ import annotations

from torch import Tensor, nn

from ..core.data import Encoded
from ..core.interfaces import Head
from .fine_tune_settings import PooledHeadConfig
from .pooling import encoded_views


class PooledHead(Head):
    """Score the view of a clip that the probes have too, see `encoded_views`.

    Args:
        width: size of the encoder's vectors
        classes: number of classes
        bands: patches per time column
    """

    def __init__(self, config: PooledHeadConfig, width: int, classes: int, bands: int) -> None:
        super().__init__()
        self.classes = classes
        self.view = config.view
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(width * bands * (2 if config.view == "bands+std" else 1), classes)

    def forward(self, encoded: Encoded) -> Tensor:
        logits: Tensor = self.linear(self.dropout(encoded_views(encoded)[self.view]))
        return logits
