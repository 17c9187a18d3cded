"""A classifier of a clip's bands, each pooled over time: what a plain mean over all patches throws away, it keeps."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

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
        size = width * bands * (2 if config.view == "bands+std" else 1)
        self.standardise = _Standardise(size, affine=False) if config.standardise else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(size, classes)

    def forward(self, encoded: Encoded) -> Tensor:
        vectors = self.standardise(encoded_views(encoded)[self.view])
        logits: Tensor = self.linear(self.dropout(vectors))
        return logits


class _Standardise(nn.BatchNorm1d):
    """Batch normalisation that takes a batch of one clip by what it has seen so far."""

    def forward(self, vectors: Tensor) -> Tensor:
        several = self.training and len(vectors) > 1
        return F.batch_norm(vectors, self.running_mean, self.running_var, training=several, eps=self.eps)
