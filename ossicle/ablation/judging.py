"""Which encoder of a cell is judged, and whether what a variant changes is its. Needs no torch.

Notable choices: a cell speaks through the last encoder of its schedule that is no control, unless the ablation names
one. What an encoder takes from another, such as its tokenizer's teacher, is that other's: a variant that changes an
earlier iteration alone reaches the judged one through its teacher, which is seldom what is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.stages import Stage
from ..report.record import Role, role_of


def judged(roles: Mapping[str, Role], encoder: str | None) -> str:
    """The encoder that a cell speaks through; empty where there is none.

    Args:
        roles: of what was judged in the cell, in the order of its schedule
        encoder: the one that the ablation names
    """
    if encoder is not None:
        return encoder if encoder in roles else ""
    made = [subject for subject, role in roles.items() if role == "iteration"]
    starts = [subject for subject, role in roles.items() if role == "start"]
    return (made or starts or [""])[-1]


def roles_in(stages: Sequence[Stage]) -> dict[str, Role]:
    """The roles of what stages judge, in the order of the schedule."""
    controls = {subject: bool(stage.tags.get("control")) for subject, stage in _trainings(stages).items()}
    subjects = [str(stage.tags["subject"]) for stage in stages if stage.is_evaluation]
    return {subject: role_of(subject, control=controls.get(subject, False)) for subject in subjects}


def changed(stages: Sequence[Stage], other: Sequence[Stage]) -> list[str]:
    """The encoders that differ from those which another experiment calls the same, by more than their teachers."""
    return [subject for subject in _trainings(stages) if _own(stages, subject) != _own(other, subject)]


def _trainings(stages: Sequence[Stage]) -> dict[str, Stage]:
    """Encoder to the stage that pre-trains it."""
    found = [stage for stage in stages if stage.makes_encoder]
    return {str(stage.tags["subject"]): stage for stage in found if "subject" in stage.tags}


def _own(stages: Sequence[Stage], subject: str) -> dict[str, Stage]:
    """The pre-training of an encoder and what it waits for, up to where another encoder's begins."""
    by_name = {stage.name: stage for stage in stages}
    found: dict[str, Stage] = {}

    def walk(stage: Stage) -> None:
        found[stage.name] = stage
        for source in stage.inputs.values():
            if not by_name[source].makes_encoder:
                walk(by_name[source])

    if subject in (trained := _trainings(stages)):
        walk(trained[subject])
    return found
