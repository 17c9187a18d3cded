"""Estimate the remaining time of an ablation from finished stages, or from a few measured steps.

Notable choices:

- The time of a training is proportional to the audio that it processes.
- Any other stage takes as long as the average finished stage of its kind.
- Finished stages of the same ablation take precedence over other stages of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..core.errors import ArtifactError
from ..core.stages import Stage
from ..core.store import CARD, Artifact, Store
from .cells import CheckedCell

Kind: TypeAlias = tuple[str, bool]
"""A group of stages with similar cost: the kind of artifact, and whether it is trained."""


@dataclass(frozen=True)
class Expectation:
    """The expected remaining time.

    Attributes:
        seconds: content key of every remaining stage to its expected time; None if it is unknown
        measured: whether steps of the trainings were measured
    """

    seconds: Mapping[str, float | None]
    measured: bool = False

    @property
    def known(self) -> float:
        """Total expected seconds, without the unknown stages."""
        return sum(seconds for seconds in self.seconds.values() if seconds is not None)

    @property
    def unknown(self) -> int:
        """Number of stages whose time is unknown."""
        return sum(seconds is None for seconds in self.seconds.values())


def expectation(
    cells: Sequence[CheckedCell], store: Store, measured: Mapping[tuple[str, str], float] | None = None
) -> Expectation:
    """Estimate the time of the stages that are not made yet.

    Args:
        measured: variant and name of a stage to the seconds of its training, from `measure`
    """
    own = _Rates(card for cell in cells for one in cell.stages if one.artifact for card in _cards([one.artifact]))
    others = _Rates(_cards(Artifact(path.parent) for path in sorted(store.root.glob(f"*/{CARD}"))))
    seconds: dict[str, float | None] = {}
    for cell in cells:
        for key in cell.to_make(store):
            stage = cell.by_key[key]
            by_steps = (measured or {}).get((cell.cell.variant.name, stage.name))
            seconds[key] = by_steps or own.seconds(stage) or others.seconds(stage)
    return Expectation(seconds, measured=measured is not None)


def measure(
    cells: Sequence[CheckedCell], store: Store, on_stage: Callable[[str], None]
) -> Mapping[tuple[str, str], float]:
    """Measure a few optimiser steps of every remaining training, once for trainings of the same cost."""
    from ..planning.plan import Calibration, plan

    taken: dict[str, Calibration] = {}
    found: dict[tuple[str, str], float] = {}
    for variant in dict.fromkeys(cell.cell.variant.name for cell in cells):
        own = [cell for cell in cells if cell.cell.variant.name == variant]
        most = max(own, key=lambda cell: len(cell.to_make(store)))
        planned = plan(most.cell.document, store=store.root, calibrate=True, taken=taken, on_stage=on_stage)
        for stage in planned.stages:
            if stage.training is not None and stage.training.seconds is not None:
                found[variant, stage.stage.name] = stage.training.seconds
    return found


class _Rates:
    """Seconds per unit of work, by kind of stage. The unit is a second of audio for trainings, else a stage."""

    def __init__(self, cards: Iterable[Mapping[str, Any]]) -> None:
        self._totals: dict[Kind, tuple[float, float]] = {}
        for card in {str(card["key"]): card for card in cards}.values():
            training = card["training"]
            audio = training and float(training["steps"]) * float(training["batch_seconds"])
            kind = card["kind"], audio is not None
            seconds, work = self._totals.get(kind, (0.0, 0.0))
            self._totals[kind] = seconds + float(card["seconds"]), work + (audio or 1.0)

    def seconds(self, stage: Stage) -> float | None:
        """Estimate the seconds of a stage. Return None if no stage of its kind is known."""
        training = stage.training_config
        kind = stage.kind, training is not None
        if kind not in self._totals:
            return None
        seconds, work = self._totals[kind]
        return seconds / work * (training.steps * training.batch_seconds if training else 1.0)


def _cards(artifacts: Iterable[Artifact]) -> Iterator[Mapping[str, Any]]:
    for artifact in artifacts:
        try:
            card = artifact.card
        except ArtifactError:
            continue
        if {"kind", "key", "seconds", "training"} <= card.keys():
            yield card
