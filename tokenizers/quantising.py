"""Tokenizers that an objective can learn through: they give their codes as vectors with gradients, too."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from ..core.data import PatchBatch
from ..core.interfaces import Tokenizer


@dataclass
class Quantised:
    """What a quantising tokenizer makes of a batch.

    Attributes:
        vectors: (B, N, d) the code of each patch; gradients pass straight through to the encoder
        ids: (B, N) int64
        commitment: (B, N) squared distance of each patch's vector from its code, averaged over its d numbers, with
            gradients to the encoder
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
