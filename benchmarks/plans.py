"""The cases that each version of the bench measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .targets import TARGETS
from .work import Case


@dataclass(frozen=True)
class Plan:
    """The cases to measure.

    Attributes:
        cases: in order
        seconds: approximate time for the rounds of a case. There are at least three rounds.
    """

    cases: Sequence[Case]
    seconds: float


QUICK: Final = Plan(
    cases=(
        Case("front-end", "tiny", 8),
        Case("encoder", "tiny", 8),
        Case("encoder", "base", 1),
        Case("tokenizer", "tiny", 8),
        Case("pretrain", "tiny", 4),
        Case("distil", "tiny", 4),
        Case("fine-tune", "tiny", 4),
        Case("pipeline", "tiny", 4),
    ),
    seconds=6.0,
)
FULL: Final = Plan(
    cases=(
        Case("front-end", "base", 8),
        Case("front-end", "base", 8, "mix"),
        *(Case("encoder", size, batch) for size in ("tiny", "base") for batch in (1, 8)),
        Case("encoder", "base", 8, "mix"),
        *(Case("tokenizer", size, 8) for size in ("tiny", "base")),
        *(Case(work, *on) for work in ("pretrain", "distil", "fine-tune") for on in (("tiny", 8), ("base", 1))),
        Case("pipeline", "base", 8),
        Case("quickstart", "tiny", 8),
    ),
    seconds=6.0,
)
ABOUT_TARGETS: Final = Plan(cases=tuple(dict.fromkeys(target.case for target in TARGETS)), seconds=20.0)
