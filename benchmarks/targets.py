"""Minimum speeds that Ossicle should reach, at base size on clips of 10 s.

Notable choices:

- Every target is a ratio within one table, so it can be checked on any machine.
- A target is not reported if its table or peer was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .measuring import Measured, Table
from .work import Case


@dataclass(frozen=True)
class Target:
    """A figure that should be reached.

    Attributes:
        case: the case in which it is measured
        contender: the contender that it applies to
        against: the contender to compare with; empty for a share
        quantity: times faster, share of the rate of bare products, or memory relative to the other's
        required: lowest value to reach, or highest value for memory
    """

    case: Case
    contender: str
    against: str
    quantity: Literal["times faster", "share", "memory"]
    required: float

    def reached(self, tables: Sequence[Table]) -> float | None:
        """Return the measured value; None if it was not measured."""
        found = next((table.contenders for table in tables if table.name == self.case.name), {})
        own, other = found.get(self.contender), found.get(self.against)
        if own is None:
            return None
        if self.quantity == "share":
            return own.share.median if own.share else None
        if self.quantity == "memory":
            return own.memory / other.memory if other and own.memory and other.memory else None
        return _times_faster(own, other)

    def holds(self, reached: float) -> bool:
        return reached <= self.required if self.quantity == "memory" else reached >= self.required


def _times_faster(own: Measured, other: Measured | None) -> float | None:
    if other is None or own.faster is None or other.faster is None:
        return None
    return own.faster.median / other.faster.median


def _pair(case: Case, contender: str, against: str, single: float, half: float) -> list[Target]:
    """Create the targets of a contender in fp32 and in bf16, compared with another one in fp32."""
    return [
        Target(case, f"{contender} fp32", against, "times faster", single),
        Target(case, f"{contender} bf16", against, "times faster", half),
    ]


_PRETRAIN: Final = Case("pretrain", batch=4)

TARGETS: Final = (
    *_pair(Case("encoder"), "ossicle", "released", 1.5, 2.5),
    *_pair(Case("tokenizer"), "ossicle", "released", 1.5, 2.5),
    *_pair(_PRETRAIN, "ossicle", "espnet fp32", 1.5, 2.5),
    *_pair(_PRETRAIN, "ossicle light", "espnet fp32", 3.0, 5.0),
    *_pair(Case("distil", batch=4), "ossicle", "espnet fp32", 1.4, 2.3),
    Target(Case("front-end"), "ossicle", "torchaudio, clip by clip", "times faster", 1.3),
    Target(Case("encoder", batch=1), "ossicle fp32", "", "share", 0.80),
    Target(Case("encoder"), "ossicle fp32", "", "share", 0.75),
    Target(_PRETRAIN, "ossicle fp32", "espnet fp32", "memory", 0.7),
)
