"""Classifiers behind an encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.data import Encoded
from ..core.interfaces import Head
from .encoder_config import AttentiveHeadConfig, LinearHeadConfig, PooledHeadConfig
from .pooling import encoded_views


class LinearHead(Head):
    """Score every patch, then average over the real patches (BEATs, released code).

    Args:
        width: size of the encoder's vectors
        classes: number of classes
    """

    def __init__(self, config: LinearHeadConfig, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(width, classes)

    def patch_logits(self, encoded: Encoded) -> Tensor:
        logits: Tensor = self.linear(self.dropout(encoded.sequence))
        return logits

    def forward(self, encoded: Encoded) -> Tensor:
        logits = self.patch_logits(encoded)
        valid = encoded.valid[..., None]
        return logits.masked_fill(~valid, 0.0).sum(1) / valid.sum(1).clamp(min=1)


class AttentiveHead(Head):
    """Pool by attention with learnt queries, then score the pooled vectors (as in attentive probing, arXiv 2202.03026).

    Args:
        width: size of the encoder's vectors
        classes: number of classes
    """

    def __init__(self, config: AttentiveHeadConfig, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.queries = nn.Parameter(torch.randn(config.queries, width) * width**-0.5)
        self.key = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.queries * width, classes)

    def forward(self, encoded: Encoded) -> Tensor:
        affinity = self.key(encoded.sequence) @ self.queries.T / encoded.sequence.shape[-1] ** 0.5  # (B, N, Q)
        seen = encoded.valid | ~encoded.valid.any(1, keepdim=True)
        weights = affinity.masked_fill(~seen[..., None], float("-inf")).softmax(1)
        pooled = weights.transpose(1, 2) @ encoded.sequence  # (B, Q, D)
        logits: Tensor = self.linear(self.dropout(pooled.flatten(1)))
        return logits


class PooledHead(Head):
    """Score a view of `encoded_views`, the same that the probes use.

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
    """Batch normalisation that uses its running statistics for a batch of one clip."""

    def forward(self, vectors: Tensor) -> Tensor:
        several = self.training and len(vectors) > 1
        return F.batch_norm(vectors, self.running_mean, self.running_var, training=several, eps=self.eps)
