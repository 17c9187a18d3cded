"""Tokenizers that an objective can learn through: they give their codes as vectors with gradients, too.

A `Quantiser` codes vectors, a `QuantisingTokenizer` patches; `distilled` puts an encoder before a quantiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from ..core.data import PatchBatch
from ..core.interfaces import Tokenizer


@dataclass
class Quantised:
    """What a quantiser makes of a batch.

    Attributes:
        vectors: (B, N, d) the code of each patch; gradients pass straight through to the encoder
        ids: (B, N) int64, or (B, N, G) of G codebooks
        commitment: (B, N) squared distance of each patch's vector from its code, averaged over its d numbers, with
            gradients to the encoder; zero where codes do not move
    """

    vectors: Tensor
    ids: Tensor
    commitment: Tensor


class QuantisingTokenizer(Tokenizer):
    """A tokenizer that is trained through an objective.

    Attributes:
        code_dim: d, numbers per code
    """

    code_dim: int

    @abstractmethod
    def quantise(self, batch: PatchBatch) -> Quantised:
        """Code a batch, with gradients; in training mode the codebook learns from it."""

    def start(self, batches: Iterable[PatchBatch]) -> None:
        """Start the codebook from data before the first step; nothing by default."""


class Quantiser(nn.Module, ABC):
    """Map vectors to codes, in fp32 whatever the type of the vectors.

    `to_code_space` brings vectors to where the codes lie; the other methods take the resulting points.

    Attributes:
        size: K, codes of a codebook
        streams: G, codebooks
        dim: d, numbers per vector
    """

    size: int
    streams: int = 1
    dim: int

    @abstractmethod
    def to_code_space(self, vectors: Tensor) -> Tensor:
        """Map vectors to points of the code space, with gradients: (…, d) to (…, d)."""

    @abstractmethod
    def nearest(self, points: Tensor) -> Tensor:
        """Find the code of each point: (…, d) to (…) int64, or (…, G)."""

    @abstractmethod
    def forward(self, points: Tensor) -> Quantised:
        """Code points of the code space with gradients, without learning from them."""

    def update(self, points: Tensor, ids: Tensor) -> None:
        """Learn from points, (n, d), and their codes, (n) or (n, G). Does nothing by default."""

    def start(self, vectors: Tensor) -> None:
        """Fit the first vectors, (n, d), before training. They are not in code space yet. Does nothing by default."""


def straight_through(vectors: Tensor, codes: Tensor) -> Tensor:
    """The codes, whose gradients go to the vectors unchanged (Bengio et al., 2013)."""
    return vectors + (codes - vectors).detach()
