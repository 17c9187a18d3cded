"""Run the stages of an experiment: what exists is skipped, what is made is kept under its key."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from .config import PartChoice
from .corpus import Corpus, Manifest
from .display import Display, Silent
from .errors import PluginError
from .loading import Plugins
from .stages import Stage, describe, in_order, stage_key
from .store import Artifact, Store


class Corpora:
    """The manifests of the corpora in use, each read once."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._manifests: dict[PartChoice, Manifest] = {}
        self._fingerprints: dict[PartChoice, str] = {}

    def corpus(self, choice: PartChoice) -> Corpus:
        corpus = choice.part.load()(choice.config)
        if not isinstance(corpus, Corpus):
            raise PluginError(f"corpus `{choice.name}` of {choice.part.origin.describe()} must be an ossicle.Corpus")
        return corpus

    def manifest(self, choice: PartChoice) -> Manifest:
        """Prepare a corpus and list its clips.

        Raises:
            CorpusError: if it cannot be read
        """
        if choice not in self._manifests:
            self._display.note(f"reading corpus {choice.name}")
            corpus = self.corpus(choice)
            corpus.prepare()
            self._manifests[choice] = corpus.manifest()
        return self._manifests[choice]

    def fingerprint(self, choice: PartChoice) -> str:
        if choice not in self._fingerprints:
            self._fingerprints[choice] = self.manifest(choice).fingerprint()
        return self._fingerprints[choice]


@dataclass
class StageRun:
    """What a stage's action works with.

    Attributes:
        stage: the stage, with its settings and seed
        inputs: role to artifact
        folder: where the action writes its results; becomes the artifact
        work: where it may keep unfinished work between interruptions
        metrics: figures for the artifact's card
        parts: entries for the parts it wrote, as `core.parts.save_part` gives them
        warnings: sentences for the card and the report
    """

    stage: Stage
    inputs: Mapping[str, Artifact]
    folder: Path
    work: Path
    plugins: Plugins
    corpora: Corpora
    display: Display
    metrics: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def manifest(self) -> Manifest:
        """The manifest of the corpus that the stage names as its setting `corpus`."""
        return self.corpora.manifest(self.stage.settings["corpus"])

    def copy_part(self, source: str, role: str) -> None:
        """Hand on a part of an input artifact unchanged."""
        name = f"{role}.safetensors"
        shutil.copyfile(self.inputs[source].path / name, self.folder / name)
        self.parts[role] = self.inputs[source].card["parts"][role]


@dataclass(frozen=True)
class StageRecord:
    """How one stage of a run went."""

    stage: Stage
    key: str
    artifact: Artifact
    reused: bool
    seconds: float


def run_stages(
    stages: Sequence[Stage], *, store: Store, plugins: Plugins, corpora: Corpora, display: Display | None = None
) -> list[StageRecord]:
    """Run stages in order, skipping those whose artifact exists.

    Raises:
        Interrupted: if a stage was asked to stop; what it had done is kept
    """
    display = display or Silent()
    records: dict[str, StageRecord] = {}
    for stage in in_order(stages):
        input_keys = {role: records[source].key for role, source in stage.inputs.items()}
        key = stage_key(stage, input_keys, corpora.fingerprint)
        inputs = {role: records[source].artifact for role, source in stage.inputs.items()}
        started = time.perf_counter()
        artifact = store.find(stage.kind, key)
        reused = artifact is not None
        if artifact is None:
            display.note(stage.name)
            artifact = _make(stage, key, inputs, input_keys, store, plugins, corpora, display)
        records[stage.name] = StageRecord(stage, key, artifact, reused, time.perf_counter() - started)
    return list(records.values())


def _make(
    stage: Stage,
    key: str,
    inputs: Mapping[str, Artifact],
    input_keys: Mapping[str, str],
    store: Store,
    plugins: Plugins,
    corpora: Corpora,
    display: Display,
) -> Artifact:
    plugins.manager.hook.ossicle_stage_start(stage=stage)
    started = time.perf_counter()
    module, _, function = stage.action.partition(":")
    action = getattr(import_module(module), function)
    with store.draft(stage.kind, key) as folder:
        run = StageRun(stage, inputs, folder, store.work(stage.kind, key), plugins, corpora, display)
        action(run)
        card = {
            "kind": stage.kind,
            "name": stage.name,
            "key": key,
            "action": stage.action,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - started, 3),
            "seed": stage.seed,
            "config": describe(stage.settings, corpora.fingerprint),
            "inputs": dict(input_keys),
            "labels": dict(stage.labels),
            "parts": run.parts,
            "metrics": run.metrics,
            "warnings": run.warnings,
            "versions": versions(),
        }
        artifact = store.commit(folder, stage.kind, key, card)
    plugins.manager.hook.ossicle_stage_end(stage=stage, artifact=artifact)
    return artifact


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    packages = ("ossicle", "torch", "fairseq2", "torchaudio", "numpy", "soxr", "soundfile", "scikit-learn")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The command that started this program, for people to repeat."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
