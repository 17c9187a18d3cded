"""How far tokenizers cut up sound alike.

Notable choices: adjusted mutual information (Vinh et al., 2010), which is about 0 for unrelated labels whatever the
sizes of the codebooks; of several streams the first is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import adjusted_mutual_info_score

from .labelling import Labels

MOST_TOKENS = 20_000


def agreement(labelled: Sequence[Labels]) -> list[list[float | None]]:
    """Adjusted mutual information of every two tokenizers' labels of the same patches.

    Returns:
        A symmetric matrix; None where two tokenizers cut clips into other grids.
    """
    found: list[list[float | None]] = [[None] * len(labelled) for _ in labelled]
    for row, one in enumerate(labelled):
        found[row][row] = 1.0
        for column in range(row):
            found[row][column] = found[column][row] = _of_two(one, labelled[column])
    return found


def _of_two(one: Labels, other: Labels) -> float | None:
    if one.bands != other.bands or one.lengths.tolist() != other.lengths.tolist():
        return None
    return float(adjusted_mutual_info_score(one.joined(0)[:MOST_TOKENS], other.joined(0)[:MOST_TOKENS]))
