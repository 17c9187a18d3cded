"""Find the encoder of a cell that is judged, and the encoders that a variant changes, without torch.

Notable choices:

- The judged encoder is the last one of the schedule that is not a control, unless the ablation names one.
- The pre-training of a teacher belongs only to the teacher. A variant that changes only an earlier iteration reaches
  the judged encoder only through its teacher, which is rarely intended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.stages import Stage
from ..report.record import Role, role_of


def judged(roles: Mapping[str, Role], encoder: str | None) -> str:
    """Return the encoder of a cell that is judged, or an empty string if there is none.

    Args:
        roles: evaluated encoders of the cell to their roles, in the order of the schedule
        encoder: the encoder that the ablation names, if any
    """
    if encoder is not None:
        return encoder if encoder in roles else ""
    made = [subject for subject, role in roles.items() if role == "iteration"]
    starts = [subject for subject, role in roles.items() if role == "start"]
    return (made or starts or [""])[-1]


def roles_in(stages: Sequence[Stage]) -> dict[str, Role]:
    """Map the evaluated encoders to their roles, in the order of the schedule."""
    controls = {subject: bool(stage.tags.get("control")) for subject, stage in _trainings(stages).items()}
    subjects = [str(stage.tags["subject"]) for stage in stages if stage.is_evaluation]
    return {subject: role_of(subject, control=controls.get(subject, False)) for subject in subjects}


def changed(stages: Sequence[Stage], other: Sequence[Stage]) -> list[str]:
    """List the encoders that differ from those of the same name in another experiment by more than their teachers."""
    return [subject for subject in _trainings(stages) if _own(stages, subject) != _own(other, subject)]


def _trainings(stages: Sequence[Stage]) -> dict[str, Stage]:
    """Map each encoder to the stage that pre-trains it."""
    found = [stage for stage in stages if stage.makes_encoder]
    return {str(stage.tags["subject"]): stage for stage in found if "subject" in stage.tags}


def _own(stages: Sequence[Stage], subject: str) -> dict[str, Stage]:
    """Collect the pre-training stage of an encoder and its inputs, except the pre-training of other encoders."""
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
