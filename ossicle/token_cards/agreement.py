"""Agreement between tokenizers.

Notable choices:

- The measure is adjusted mutual information (Vinh et al., 2010). It is about 0 for unrelated tokens with codebooks of
  any size.
- With several streams, only the first is compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import adjusted_mutual_info_score

from .clip_tokens import ClipTokens

MOST_TOKENS = 20_000


def agreement(of_tokenizers: Sequence[ClipTokens]) -> list[list[float | None]]:
    """Compute the adjusted mutual information of the tokens of every two tokenizers for the same patches.

    Returns:
        A symmetric matrix; None if two tokenizers have different patch grids.
    """
    found: list[list[float | None]] = [[None] * len(of_tokenizers) for _ in of_tokenizers]
    for row, one in enumerate(of_tokenizers):
        found[row][row] = 1.0
        for column in range(row):
            found[row][column] = found[column][row] = _of_two(one, of_tokenizers[column])
    return found


def _of_two(one: ClipTokens, other: ClipTokens) -> float | None:
    if one.bands != other.bands or one.lengths.tolist() != other.lengths.tolist():
        return None
    return float(adjusted_mutual_info_score(one.joined(0)[:MOST_TOKENS], other.joined(0)[:MOST_TOKENS]))
