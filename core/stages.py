"""From an experiment to a graph of stages. A stage is a pure function of its settings, its inputs and its corpora.

Notable choices: a stage names its action as `"module:function"`, so that planning imports nothing heavy; its key is the
hash of everything that decides its result, so that what exists is never made twice. A corpus enters a key by the
fingerprint of its manifest, a part by its configuration and the fingerprint of the plugin that made it.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .choices import PartChoice
from .config import Config
from .errors import OssicleError
from .experiment import Experiment, TrainingConfig


@dataclass(frozen=True)
class Stage:
    """One step of an experiment.

    Attributes:
        name: unique within the experiment, for people: `iteration 1/pretrain`
        kind: the kind of artifact it makes: `survey`, `tokenizer`, `pretrain`, …
        action: `"module:function"`; the function takes a `core.stage_runner.StageRun`
        settings: what decides the result: configurations, choices of parts, plain values
        inputs: role to the name of the stage whose artifact is needed
        seed: drives everything random in it
        revision: raised by the author when the action gives other results from the same settings
        labels: plain values for people and reports; they do not enter the key
        objective: `"module:function"`; builds the objective that the action trains, from the same `StageRun`, so that a
            plan can weigh a stage before its inputs are made; it does not enter the key
    """

    name: str
    kind: str
    action: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    revision: int = 1
    labels: Mapping[str, Any] = field(default_factory=dict)
    objective: str | None = None


def training_of(stage: Stage) -> TrainingConfig | None:
    """How a stage trains, as one of its settings says or the configuration of a part there; None if it does not."""
    settings = [value.config if isinstance(value, PartChoice) else value for value in stage.settings.values()]
    return next((value for value in settings if isinstance(value, TrainingConfig)), None)


class Schedule(ABC):
    """Turns an experiment into stages. The first constructor argument is its typed configuration."""

    @abstractmethod
    def stages(self, experiment: Experiment) -> list[Stage]:
        """List the stages; two may be the same work under one name, but not two works."""


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
    """Of stages in order, those named and all that they wait for."""
    wanted = set(names)
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted.update(stage.inputs.values())
    return [stage for stage in stages if stage.name in wanted]


def stage_key(stage: Stage, input_keys: Mapping[str, str], corpus_fingerprint: Callable[[PartChoice], str]) -> str:
    """The content key of a stage: SHA-256 over all that decides its result."""
    described = {
        "action": stage.action,
        "revision": stage.revision,
        "seed": stage.seed,
        "settings": describe(stage.settings, corpus_fingerprint),
        "inputs": dict(input_keys),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def describe(value: Any, corpus_fingerprint: Callable[[PartChoice], str]) -> Any:
    """Settings as plain data, with every corpus replaced by its fingerprint and every part signed by its origin."""
    if isinstance(value, PartChoice):
        if value.kind == "corpus":
            return {"corpus": corpus_fingerprint(value)}
        return {
            "type": value.name,
            "origin": value.part.origin.fingerprint(),
            **describe(value.config, corpus_fingerprint),
        }
    if isinstance(value, Config):
        return describe(value.identity(), corpus_fingerprint)
    if isinstance(value, Mapping):
        return {str(name): describe(item, corpus_fingerprint) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item, corpus_fingerprint) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
