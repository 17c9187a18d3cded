"""Tokenizers with gradients, so that an objective can train them.

A `Quantiser` maps vectors to codes, a `QuantisingTokenizer` maps patches to codes. `distilled` puts an encoder before a
quantiser.
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
    """The result of a quantiser for one batch.

    Attributes:
        vectors: (B, N, d) the code vector of each patch; gradients pass straight through to the encoder
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
        """Quantise a batch, with gradients. In training mode the codebook learns from it."""

    def start(self, batches: Iterable[PatchBatch]) -> None:
        """Initialise the codebook from data before the first step. Does nothing by default."""


class Quantiser(nn.Module, ABC):
    """Map vectors to codes, in fp32 whatever the type of the vectors.

    `to_code_space` brings vectors to where the codes lie; the other methods take the resulting points.

    Attributes:
        size: K, the number of codes of a codebook
        streams: G, the number of codebooks
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
        """Quantise points of the code space with gradients, without learning from them."""

    def update(self, points: Tensor, ids: Tensor) -> None:
        """Learn from points, (n, d), and their codes, (n) or (n, G). Does nothing by default."""

    def start(self, vectors: Tensor, *, per_batch: float | None = None) -> None:
        """Fit the first vectors, (n, d), before training. They are not in code space yet. Does nothing by default.

        Args:
            per_batch: vectors in a training batch; None if they are one batch
        """


def straight_through(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the codes. Their gradients go to the vectors unchanged (straight-through; Bengio et al., 2013)."""
    return vectors + (codes - vectors).detach()
