"""Gather vectors from positions in the grid, and scatter them back."""

from __future__ import annotations

from torch import Tensor


def gather(sequence: Tensor, positions: Tensor) -> Tensor:
    """Pick the vectors at given positions: (B, N, D), (B, V) int64 to (B, V, D)."""
    return sequence.gather(1, positions[..., None].expand(-1, -1, sequence.shape[-1]))


def scatter(sequence: Tensor, positions: Tensor, count: int) -> Tensor:
    """Put vectors at given positions among `count`, with zeros elsewhere: (B, V, D), (B, V) int64 to (B, N, D).

    Vectors at the same position are summed.
    """
    empty = sequence.new_zeros(sequence.shape[0], count, sequence.shape[-1])
    return empty.scatter_add(1, positions[..., None].expand_as(sequence), sequence)
