"""Pick vectors from their places in the grid, and put them back."""

from __future__ import annotations

from torch import Tensor


def take(sequence: Tensor, places: Tensor) -> Tensor:
    """Pick what stands at given places: (B, N, D), (B, V) int64 to (B, V, D)."""
    return sequence.gather(1, places[..., None].expand(-1, -1, sequence.shape[-1]))


def put(sequence: Tensor, places: Tensor, count: int) -> Tensor:
    """Set vectors at given places among `count`, with zeros elsewhere: (B, V, D), (B, V) int64 to (B, N, D).

    Vectors at the same place are summed.
    """
    empty = sequence.new_zeros(sequence.shape[0], count, sequence.shape[-1])
    return empty.scatter_add(1, places[..., None].expand_as(sequence), sequence)
