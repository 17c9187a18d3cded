"""Choose the next cell: trainings that many cells wait for come first, and no two jobs run the same training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..core.store import Store
from .cells import CheckedCell


def next_cell(waiting: Sequence[CheckedCell], running: Sequence[CheckedCell], store: Store) -> CheckedCell | None:
    """Choose the cell to start next, or None if every cell needs a training that a running cell does.

    Among the cells that do not, take the one whose trainings most other cells wait for. Ties go to the first.
    """
    needed = {cell.cell.name: cell.trainings(cell.to_make(store)) for cell in (*waiting, *running)}
    underway = {key for cell in running for key in needed[cell.cell.name]}
    awaited = Counter(key for cell in waiting for key in needed[cell.cell.name])
    free = [cell for cell in waiting if not needed[cell.cell.name] & underway]
    return max(free, key=lambda cell: sum(awaited[key] - 1 for key in needed[cell.cell.name]), default=None)
