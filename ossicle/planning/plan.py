"""The plan of an experiment: its stages and their cost in parameters, operations, memory and time.

Notable choices:

- Trainings of the same parts with the same settings are counted once.
- Corpora may be missing. Values that depend on them (keys, existing artifacts, classes, lengths of clips) are then
  assumed or unknown, and the plan says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..audio.corpus_overview import CorpusOverview, Overviews
from ..core.choices import parts_of
from ..core.config_files.documents import Document
from ..core.config_files.experiment_loader import resolved_yaml
from ..core.corpora import Corpora
from ..core.errors import OssicleError
from ..core.experiment import TrainingConfig
from ..core.interfaces import Tokenizer
from ..core.parts import Recipe
from ..core.stages import CorpusStage, Stage, describe
from ..core.store import Artifact, Store
from ..experiment.check import CheckedExperiment, compose, corpus_problems
from ..experiment.run import DEFAULT_OUT, STORE
from ..tasks.evaluation.folds import folds_of
from ..tokenizers.token_cache import is_worth_caching
from ..training.objective_extras import may_augment
from .cost import Noise, StepCost, count_step
from .locate import KnownCorpora, located
from .previews import Previews
from .subprocess_measure import calibration, measured


@dataclass(frozen=True)
class Calibration:
    """Measurements of a few optimiser steps on this machine.

    Attributes:
        clips: number of clips in each step
        seconds: duration of a step
        bytes: memory of the steps
    """

    clips: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class PlannedTraining:
    """The training of a stage.

    Attributes:
        settings: the training configuration
        runs: number of trainings, one for each fold
        noise: noise with the length and labels of the clips of its corpus
        cost: the cost of a step
        tokens_cached: whether the tokens of whole clips are computed only once; None without a frozen tokenizer
        calibration: measured steps; None if nothing was measured
    """

    settings: TrainingConfig
    runs: int
    noise: Noise
    cost: StepCost
    tokens_cached: bool | None = None
    calibration: Calibration | None = None

    @property
    def clips(self) -> int:
        """Number of clips in a step, over all devices."""
        return max(1, int(self.settings.batch_seconds / self.noise.seconds))

    @property
    def steps(self) -> int:
        """Number of steps of all runs."""
        return self.settings.steps * self.runs

    @property
    def patches(self) -> int:
        """Total number of patches."""
        return self.cost.patches * self.clips * self.steps

    @property
    def step_flops(self) -> int:
        return self.cost.flops * self.clips

    @property
    def flops(self) -> int:
        return self.step_flops * self.steps

    @property
    def bytes(self) -> int:
        """Estimated memory of one device that processes a whole batch."""
        return self.cost.fixed_bytes + self.cost.clip_bytes * self.clips

    @property
    def seconds(self) -> float | None:
        """Expected time on one device like the calibrated one; None without a calibration."""
        if self.calibration is None:
            return None
        return self.calibration.seconds * self.clips / self.calibration.clips * self.steps


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a plan.

    Attributes:
        key: content key of the stage; None if a corpus is not known
        artifact: artifact of an earlier run; None if there is none
        training: the training; None if the stage trains nothing, or its training is unknown
        unknown: the reason why the training is unknown
    """

    stage: Stage
    key: str | None = None
    artifact: Artifact | None = None
    training: PlannedTraining | None = None
    unknown: str = ""

    @property
    def expected_seconds(self) -> float | None:
        """Expected time until the stage is done; None if unknown."""
        if self.artifact is not None:
            return 0.0
        return self.training.seconds if self.training else None


@dataclass(frozen=True)
class Plan:
    """The plan of an experiment.

    Attributes:
        stages: the stages, inputs first
        open: assumptions and unknown values, with reasons
        price_per_hour: price of this machine
    """

    name: str
    stages: Sequence[PlannedStage]
    open: Sequence[str] = ()
    price_per_hour: float | None = None

    @property
    def to_train(self) -> list[PlannedTraining]:
        """The trainings that are not done."""
        return [planned.training for planned in self.stages if planned.training and planned.artifact is None]

    @property
    def seconds(self) -> float | None:
        """Expected time of all trainings that are not done; None without a calibration."""
        found = [training.seconds for training in self.to_train]
        known = [seconds for seconds in found if seconds is not None]
        return sum(known) if len(known) == len(found) else None

    def cost(self, seconds: float | None) -> float | None:
        """Compute the price of a time on this machine; None if the time or the price per hour is unknown."""
        return None if seconds is None or self.price_per_hour is None else seconds / 3600 * self.price_per_hour

    def plain(self) -> dict[str, Any]:
        """Convert the plan to plain data for JSON, with memory in bytes and times in seconds."""
        return {
            "name": self.name,
            "open": list(self.open),
            "stages": [_plain_stage(self, planned) for planned in self.stages],
            "to_do": {
                "trainings": len(self.to_train),
                "flops": sum(training.flops for training in self.to_train),
                "seconds": self.seconds,
                "cost": self.cost(self.seconds),
            },
        }


def _plain_stage(plan: Plan, planned: PlannedStage) -> dict[str, Any]:
    stage, training = planned.stage, planned.training
    plain: dict[str, Any] = {
        "name": stage.name,
        "kind": stage.kind,
        "inputs": dict(stage.inputs),
        "key": planned.key,
        "done": None if planned.key is None else planned.artifact is not None,
        "spent_seconds": planned.artifact.card["seconds"] if planned.artifact else None,
        "training": None,
    }
    if planned.unknown:
        plain["unknown"] = planned.unknown
    if training is not None:
        plain["training"] = {
            "steps": training.steps,
            "runs": training.runs,
            "clips_per_step": training.clips,
            "clip_seconds": training.noise.seconds,
            "parameters": training.cost.parameters,
            "kept_parameters": dict(training.cost.kept),
            "tokens_cached": training.tokens_cached,
            "patches_per_clip": training.cost.patches,
            "patches": training.patches,
            "flops_per_step": training.step_flops,
            "flops": training.flops,
            "estimated_bytes": training.bytes,
            "estimated_bytes_fixed": training.cost.fixed_bytes,
            "estimated_bytes_per_clip": training.cost.clip_bytes,
            "calibration": asdict(training.calibration) if training.calibration else None,
            "expected_seconds": training.seconds,
            "expected_cost": plan.cost(training.seconds),
        }
    return plain


def plan(
    experiment: str | Path | Document,
    *,
    overrides: Sequence[str] = (),
    out: str | Path = DEFAULT_OUT,
    store: str | Path | None = None,
    calibrate: bool = False,
    taken: dict[str, Calibration] | None = None,
    price_per_hour: float | None = None,
    on_stage: Callable[[str], None] = lambda name: None,
) -> Plan:
    """Plan an experiment without making anything.

    Args:
        experiment: path of its YAML, or a document whose bases are resolved
        overrides: `dotted.path=VALUE`, merged into the YAML
        out: folder of runs; existing artifacts are found in its store
        store: folder of artifacts, if it is not `.store` in `out`
        calibrate: whether to measure a few optimiser steps of every training on this machine
        taken: measurements of other plans, which are reused; those of this plan are added
        price_per_hour: price of this machine
        on_stage: called with the name of each stage before it is counted

    Raises:
        ConfigError: if the experiment is invalid, regardless of its corpora
        OssicleError: if `price_per_hour` is given without `calibrate`
    """
    if price_per_hour is not None and not calibrate:
        raise OssicleError("a price needs the time of each training: measure it with `--calibrate`")
    checked = compose(experiment if isinstance(experiment, Document) else Path(experiment), overrides)
    corpora = KnownCorpora()
    problems = corpus_problems(checked.resolved, Overviews(corpora), prepare=False)
    found = [*map(str, problems), *_unrendered(checked, corpora)]
    artifacts = Store(Path(store or Path(out) / STORE))
    found_stages = located(checked.stages, artifacts, corpora, checked.plugins.catalog)
    stages = [PlannedStage(one.stage, one.key, one.artifact) for one in found_stages]
    stages = list(_counted(stages, checked, corpora, on_stage))
    if calibrate:
        stages = list(_calibrated(stages, checked, on_stage, {} if taken is None else taken))
    return Plan(checked.experiment.name, stages, found, price_per_hour)


def _unrendered(checked: CheckedExperiment, corpora: KnownCorpora) -> Iterator[str]:
    choices = {choice for _, choice in parts_of(checked.experiment) if choice.kind == "corpus"}
    for choice in sorted(choices, key=lambda choice: choice.display_name):
        corpus = corpora.corpus(choice)
        if not corpus.is_ready and not corpus.problems():
            name = choice.display_name
            yield f"corpus `{name}` is made on first use, so keys, labels and lengths are not known yet"


def _counted(
    stages: Sequence[PlannedStage], checked: CheckedExperiment, corpora: KnownCorpora, on_stage: Callable[[str], None]
) -> Iterator[PlannedStage]:
    """Add the cost of each training."""
    counter = _CostCounter(checked, corpora, on_stage)
    for planned in stages:
        stage, settings = planned.stage, planned.stage.training_config
        if settings is None:
            yield planned
            continue
        noise = _noise_like(stage, settings, corpora)
        try:
            cost, tokens_cached = counter.count(stage, settings, noise)
        except OssicleError as error:
            yield replace(planned, unknown=str(error))
        except Exception as error:  # a third-party part may raise anything on tensors with undefined values
            yield replace(planned, unknown=f"{type(error).__name__}: {error}")
        else:
            training = PlannedTraining(settings, _runs(stage, corpora), noise, cost, tokens_cached)
            yield replace(planned, training=training)


class _CostCounter:
    """Counts the cost of each kind of training once."""

    def __init__(self, checked: CheckedExperiment, corpora: Corpora, on_stage: Callable[[str], None]) -> None:
        self._previews = Previews(checked.stages, checked.plugins, corpora)
        self._on_stage = on_stage
        self._found: dict[str, tuple[str, StepCost, bool | None]] = {}

    def count(self, stage: Stage, settings: TrainingConfig, noise: Noise) -> tuple[StepCost, bool | None]:
        """Count the cost of a step of a stage, and find out whether tokens are cached.

        Raises:
            OssicleError: if the training is unknown
        """
        kind = self._kind(stage, noise)
        if kind in self._found:
            other, cost, tokens_cached = self._found[kind]
            self._previews.adopt(stage.name, other)
            return cost, tokens_cached
        self._on_stage(stage.name)
        preview = self._previews.preview(stage.name)
        if preview is None:
            raise OssicleError("its kind of stage has no `objective_builder`")
        cost = count_step(preview.objective, preview.front_end, noise, settings, inputs=preview.inputs)
        tokenizers = [part for part in preview.inputs if isinstance(part, Tokenizer)]
        augmented = may_augment(type(preview.objective))
        tokens_cached = all(is_worth_caching(part, augmented=augmented) for part in tokenizers) if tokenizers else None
        self._found[kind] = stage.name, cost, tokens_cached
        return cost, tokens_cached

    def _kind(self, stage: Stage, noise: Noise) -> str:
        """Describe a training. Stages that train the same parts with the same settings are equal; seeds are ignored."""
        inputs = {
            role: {part: [made.choice.plain(), repr(made.arguments)] for part, made in self._recipes(source).items()}
            for role, source in stage.inputs.items()
        }
        settings = {name: _cost_settings(value) for name, value in describe(stage.settings, lambda choice: "").items()}
        return json.dumps([stage.kind, settings, inputs, asdict(noise)], sort_keys=True, default=str)

    def _recipes(self, source: str) -> Mapping[str, Recipe]:
        return self._previews.recipes(source)


def _cost_settings(value: Any) -> Any:
    """Keep the settings that affect the cost of a clip, without those such as the number of clips or learning rates."""
    if not isinstance(value, dict):
        return value
    idle = TrainingConfig.model_fields.keys() - {"precision", "gradient_checkpointing"}
    return {name: item for name, item in value.items() if name not in idle}


def _noise_like(stage: Stage, settings: TrainingConfig, corpora: KnownCorpora) -> Noise:
    """Make noise with the length and labels of the clips that a stage trains on."""
    if not isinstance(stage, CorpusStage):
        return Noise(settings.crop_seconds)
    manifest = corpora.manifest(stage.corpus)
    seconds = manifest.seconds[manifest.rows_in(*settings.splits)]
    seconds = np.minimum(seconds[seconds > 0], settings.crop_seconds)
    mean = round(float(seconds.mean()), 2) if len(seconds) else settings.crop_seconds
    return Noise(max(mean, 0.01), len(manifest.label_names), manifest.multi_label)


def _runs(stage: Stage, corpora: KnownCorpora) -> int:
    """Count the trainings of a stage. An evaluation with folds trains once for each fold."""
    if not (stage.is_evaluation and isinstance(stage, CorpusStage)):
        return 1
    return max(1, len(folds_of(CorpusOverview.of(corpora.manifest(stage.corpus)))))


def _calibrated(
    stages: Sequence[PlannedStage],
    checked: CheckedExperiment,
    on_stage: Callable[[str], None],
    taken: dict[str, Calibration],
) -> Iterator[PlannedStage]:
    """Measure a few steps of every training that is not done, once for trainings of the same cost."""
    with TemporaryDirectory() as folder:
        resolved = Path(folder) / "experiment.yaml"
        resolved.write_text(resolved_yaml(checked.experiment))
        for planned in stages:
            training = planned.training
            if training is None or planned.artifact is not None:
                yield planned
                continue
            alike = repr((training.cost, training.noise, training.clips, training.settings.threads))
            if alike not in taken:
                on_stage(planned.stage.name)
                order = {
                    "experiment": str(resolved),
                    "stage": planned.stage.name,
                    "most_clips": training.clips,
                    "noise": asdict(training.noise),
                }
                taken[alike] = Calibration(**measured(calibration, order))
            yield replace(planned, training=replace(training, calibration=taken[alike]))
