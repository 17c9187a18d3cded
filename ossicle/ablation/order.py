"""Which cell is next: what many wait for comes first, and no two jobs train the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..core.store import Store
from .cells import CheckedCell


def next_cell(waiting: Sequence[CheckedCell], running: Sequence[CheckedCell], store: Store) -> CheckedCell | None:
    """The cell to start next; None while all must wait for trainings that others are at.

    Of those that need none of these it is the one that trains most of what others wait for; of equals, the first.
    """
    needed = {cell.cell.name: cell.trainings(cell.to_make(store)) for cell in (*waiting, *running)}
    underway = {key for cell in running for key in needed[cell.cell.name]}
    awaited = Counter(key for cell in waiting for key in needed[cell.cell.name])
    free = [cell for cell in waiting if not needed[cell.cell.name] & underway]
    return max(free, key=lambda cell: sum(awaited[key] - 1 for key in needed[cell.cell.name]), default=None)
