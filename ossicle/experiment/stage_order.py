"""The order of stages: inputs first. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..core.errors import OssicleError
from ..core.stages import Stage


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Sort stages so that inputs come first, keeping the given order otherwise.

    Raises:
        OssicleError: if two different stages share a name, an input is missing or the graph has a cycle
    """
    by_name: dict[str, Stage] = {}
    for stage in stages:
        if by_name.setdefault(stage.name, stage) != stage:
            raise OssicleError(f"two different stages are called `{stage.name}`")
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage, above: tuple[str, ...]) -> None:
        if stage.name in above:
            raise OssicleError(f"the stages form a cycle: {' -> '.join([*above, stage.name])}")
        for role, source in stage.inputs.items():
            if source not in by_name:
                raise OssicleError(f"stage `{stage.name}` needs `{source}` as its {role}, but there is no such stage")
            if source not in ordered:
                visit(by_name[source], (*above, stage.name))
        ordered[stage.name] = stage

    for stage in by_name.values():
        if stage.name not in ordered:
            visit(stage, ())
    return list(ordered.values())


def with_inputs(stages: Sequence[Stage], names: Iterable[str]) -> list[Stage]:
    """Select the named stages and all stages that they depend on, from stages with inputs first."""
    selected = set(names)
    for stage in reversed(stages):
        if stage.name in selected:
            selected.update(stage.inputs.values())
    return [stage for stage in stages if stage.name in selected]
