"""Stages: the steps of an experiment, and the keys under which their results are stored.

Notable choices:

- A kind of stage names its action as `"module:function"`, so that planning imports nothing heavy.
- A key hashes everything that determines the result: corpora by the fingerprints of their manifests, parts by
  configuration and origin, and kinds of stages by id, revision and origin.
- Module paths and class names do not enter the key, so code can be moved.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .choices import PartChoice
from .config import Config
from .errors import PluginError
from .experiment import Experiment, TrainingConfig

if TYPE_CHECKING:
    from .catalog import Origin


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """One step of an experiment.

    A kind of stage is a frozen, keyword-only dataclass that derives from this one. The fields that it adds are its
    settings (configurations, choices of parts, plain values), which enter the key.

    Attributes:
        kind: stable id of the kind of stage; enters the key, and names the folders of artifacts
        revision: increased by the author when the action gives different results for the same settings
        action: `"module:function"`; takes a `core.stage_runner.StageRun` and writes the artifact
        objective_builder: `"module:function"`; takes a `StageRun`, too, and builds the objective that the action
            trains, so that a plan can estimate the cost of the stage before its inputs exist
        is_survey: whether it writes the `survey.json` and `bad_files.jsonl` of its corpus
        makes_encoder: whether its encoder is a result of the run, unlike starting points and teachers
        learns_labels: whether encoders that depend on it know the labels of all folds of its `corpus`
        measures_tokens: whether it writes the `tokens.json` of a tokenizer
        is_evaluation: whether it writes scores with `tasks.evaluation.results.save_result`
        name: unique within the experiment, for people: `iteration 1/pretrain`
        inputs: role to the name of the stage whose artifact is needed
        seed: seed of all random numbers in the stage
        tags: plain values for people, which do not enter the key. Reports use `subject` (what people call the encoder),
            `task`, `corpus` (their names) and `control` (whether the encoder only shows what a gain must exceed)
    """

    kind: ClassVar[str]
    revision: ClassVar[int] = 1
    action: ClassVar[str]
    objective_builder: ClassVar[str | None] = None
    is_survey: ClassVar[bool] = False
    makes_encoder: ClassVar[bool] = False
    learns_labels: ClassVar[bool] = False
    measures_tokens: ClassVar[bool] = False
    is_evaluation: ClassVar[bool] = False

    name: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    tags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that the kind of stage adds, by name."""
        common = {one.name for one in fields(Stage)}
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in common}

    @property
    def training_config(self) -> TrainingConfig | None:
        """The settings of its training, or None if it does not train.

        If several processes run a stage that does not train, only the first one runs its action.
        """
        return None

    @classmethod
    def flags(cls) -> list[str]:
        """List the names of the flags that this kind sets. Cards and `run.json` contain them."""
        return [flag for flag in FLAGS if getattr(cls, flag)]


FLAGS: Final = ("is_survey", "makes_encoder", "learns_labels", "measures_tokens", "is_evaluation")
"""The boolean attributes of a kind of stage."""


@dataclass(frozen=True, kw_only=True)
class CorpusStage(Stage):
    """A stage that reads a corpus."""

    corpus: PartChoice


def check_kind(stage: type[Stage]) -> None:
    """Check that a class can be a kind of stage.

    Raises:
        PluginError: if it cannot
    """
    if not (isinstance(stage, type) and issubclass(stage, Stage) and "__dataclass_fields__" in vars(stage)):
        requirement = "must be a subclass of ossicle.Stage with `@dataclass(frozen=True, kw_only=True)`"
    elif not re.fullmatch(r"[a-z][a-z0-9_]*", str(getattr(stage, "kind", ""))):
        requirement = 'needs a stable id in lower-case letters, digits and `_`, such as `kind = "my_stage"`'
    elif ":" not in str(getattr(stage, "action", "")):
        requirement = 'must name the function that runs it, such as `action = f"{__name__}:run_it"`'
    else:
        return
    raise PluginError(f"the kind of stage `{getattr(stage, '__qualname__', stage)}` {requirement}")


class Schedule(ABC):
    """Lists the stages of an experiment. The first constructor argument is its typed configuration."""

    @abstractmethod
    def stages(self, experiment: Experiment) -> list[Stage]:
        """List the stages. The same stage can occur twice, but two different stages cannot share a name."""


def stage_key(
    stage: Stage, input_keys: Mapping[str, str], *, origin: Origin, corpus_fingerprint: Callable[[PartChoice], str]
) -> str:
    """Compute the content key of a stage: SHA-256 over everything that determines its result.

    Args:
        input_keys: role to the key of the stage that fills it
        origin: the origin of the stage's kind, from `Catalog.origin_of`
    """
    described = {
        "kind": stage.kind,
        "origin": origin.fingerprint(),
        "revision": stage.revision,
        "seed": stage.seed,
        "settings": describe(stage.settings, corpus_fingerprint),
        "inputs": dict(input_keys),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def describe(value: Any, corpus_fingerprint: Callable[[PartChoice], str]) -> Any:
    """Return settings as plain data, with fingerprints for corpora and with the origin of every part.

    Raises:
        PluginError: if a setting is not a plain value, a configuration or a part
    """
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
    if isinstance(value, PurePath):
        return str(value)
    raise PluginError(f"a stage's settings must be plain values, configurations or parts, but one is {value!r}")
