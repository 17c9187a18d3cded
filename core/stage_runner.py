"""Run the stages of an experiment: skip those that are stored, and store the others under their keys.

Notable choices:

- All processes go through the same stages. All take part in those that train. Only the first process runs the others,
  stores artifacts, calls the hooks, and decides whether an artifact can be reused.
- If several runs share a store, one runs a stage while the others wait for it.
- If the files of an artifact do not match its card, the stage runs again before another stage reads it.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

from .corpora import Corpora
from .display import Display, Silent
from .distributed import as_single_process, from_all_ranks, from_first_rank, rank, world_size
from .errors import ArtifactError, OssicleError
from .manifest import Manifest
from .part_kinds import load_target
from .plugin_loading import Plugins
from .stages import CorpusStage, Stage, describe, stage_key
from .store import Artifact, Store

S = TypeVar("S", bound=Stage, covariant=True)
T = TypeVar("T")


@dataclass
class StageRun(Generic[S]):
    """The context of an action of a stage of kind `S`.

    Attributes:
        stage: the stage, with its settings and seed
        inputs: role to artifact
        folder: where the action writes its results; becomes the artifact
        work: the folder for unfinished work, which survives interruptions; the same for all processes
        elastic: whether a training can continue from a checkpoint of a different number of processes
        metrics: figures for the artifact's card
        parts: entries for the parts it wrote, as `core.parts.save_part` gives them
        warnings: sentences for the card and the report
    """

    stage: S
    inputs: Mapping[str, Artifact]
    folder: Path
    work: Path
    plugins: Plugins
    corpora: Corpora
    display: Display
    elastic: bool = False
    metrics: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def manifest(self: StageRun[CorpusStage]) -> Manifest:
        """Return the manifest of the stage's corpus."""
        return self.corpora.manifest(self.stage.corpus)

    def part(self, source: str, role: str, expected: type[T], *, options: Mapping[str, Any] | None = None) -> T:
        """Build a part of an input artifact, as `core.parts.load_part` does."""
        from .parts import load_part

        return load_part(self.inputs[source], role, expected, self.plugins.catalog, options=options)

    def holds(self, source: str, role: str) -> bool:
        """Return whether an input artifact has a part of this role."""
        return role in self.inputs[source].card["parts"]

    def copy_part(self, source: str, role: str) -> None:
        """Copy a part of an input artifact unchanged."""
        name = f"{role}.safetensors"
        shutil.copyfile(self.inputs[source].file(name), self.folder / name)
        self.parts[role] = self.inputs[source].card["parts"][role]


@dataclass(frozen=True)
class StageRecord:
    """The outcome of one stage of a run."""

    stage: Stage
    key: str
    artifact: Artifact
    reused: bool
    seconds: float


def run_stages(
    stages: Sequence[Stage],
    *,
    store: Store,
    plugins: Plugins,
    corpora: Corpora,
    display: Display | None = None,
    elastic: bool = False,
) -> list[StageRecord]:
    """Run stages in order, skipping those whose artifact exists and matches its card.

    Args:
        stages: inputs first
        elastic: as in `StageRun`

    Raises:
        Interrupted: if a stop was requested; finished work is kept
        OssicleError: if the processes of this run see different recordings, code or artifacts
    """
    display = display or Silent()
    records: dict[str, StageRecord] = {}
    for stage in stages:
        input_keys = {role: records[source].key for role, source in stage.inputs.items()}
        origin = plugins.catalog.origin_of(stage)
        key = stage_key(stage, input_keys, origin=origin, corpus_fingerprint=corpora.fingerprint)
        inputs = {role: records[source].artifact for role, source in stage.inputs.items()}
        started = time.perf_counter()
        with _making(stage, key, store, display):
            # On a network file system, a process that looked for a missing file may not see it for a while after it
            # exists.
            reused = _agreed(stage, key, rank() == 0 and _is_made(stage, key, store, display))
            if not reused:
                display.note(stage.name)
                work = store.work(stage.kind, key)
                begin = partial(
                    StageRun,
                    stage,
                    inputs,
                    work=work,
                    plugins=plugins,
                    corpora=corpora,
                    display=display,
                    elastic=elastic,
                )
                if rank() == 0:
                    _make(stage, key, input_keys, store, begin)
                elif stage.training_config is not None:
                    _take_part(begin)
                from_first_rank(None)
        artifact = store.find(stage.kind, key)
        if artifact is None:
            raise ArtifactError(
                f"process {rank()} cannot see the files that process 0 wrote to {store.root}: all processes must share "
                "that folder"
            )
        records[stage.name] = StageRecord(stage, key, artifact, reused, time.perf_counter() - started)
    return list(records.values())


def _making(stage: Stage, key: str, store: Store, display: Display) -> AbstractContextManager[None]:
    """Keep other runs from running the same stage. Processes of one run work on it together."""
    if rank() > 0 or store.find(stage.kind, key, contents=True) is not None:
        return nullcontext()
    return store.making(
        stage.kind, key, on_wait=lambda: display.note(f"waiting for another run that is making {stage.name}")
    )


def _is_made(stage: Stage, key: str, store: Store, display: Display) -> bool:
    def warn(damage: str) -> None:
        display.warn(f"`{stage.name}` runs again: {damage}")

    return store.find(stage.kind, key, contents=True, on_damage=warn) is not None


def _agreed(stage: Stage, key: str, found: bool) -> bool:
    """Return whether the first process found the artifact, after checking that all processes have the same key."""
    first_key, first_found = from_first_rank((key, found))
    if first_key != key:
        raise OssicleError(
            f"process {rank()} would compute a different result of `{stage.name}` than process 0: they read different "
            "recordings, or run different versions of Ossicle or of a plugin"
        )
    return first_found


def _make(
    stage: Stage, key: str, input_keys: Mapping[str, str], store: Store, begin: Callable[[Path], StageRun[Stage]]
) -> None:
    with store.draft(stage.kind, key) as folder:
        run = begin(folder)
        hook = run.plugins.manager.hook
        hook.ossicle_stage_start(stage=stage)
        started = time.perf_counter()
        _act(run)
        training = stage.training_config
        card = {
            "kind": stage.kind,
            "flags": stage.flags(),
            "origin": run.plugins.catalog.origin_of(stage).describe(),
            "name": stage.name,
            "key": key,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - started, 3),
            "seed": stage.seed,
            "config": describe(stage.settings, run.corpora.fingerprint),
            "inputs": dict(input_keys),
            "tags": dict(stage.tags),
            "training": training and {"steps": training.steps, "batch_seconds": training.batch_seconds},
            "parts": run.parts,
            "metrics": run.metrics,
            "warnings": run.warnings,
            "versions": versions(),
            "processes": world_size() if training else 1,
        }
        artifact = store.commit(folder, stage.kind, key, card)
    hook.ossicle_stage_end(stage=stage, artifact=artifact)


def _take_part(begin: Callable[[Path], StageRun[Stage]]) -> None:
    """Run the action like the first process, and discard the results."""
    with TemporaryDirectory() as folder:
        _act(begin(Path(folder)))


def _act(run: StageRun[Stage]) -> None:
    action = load_target(run.stage.action, f"stage `{run.stage.kind}`: ")
    if run.stage.training_config is None:
        with as_single_process():
            action(run)
    else:
        action(run)
        # Wait for all processes, because the first one removes the unfinished work next.
        from_all_ranks(None)


def versions() -> dict[str, str]:
    """Return the versions of the packages that determine a result."""
    packages = ("ossicle", "torch", "fairseq2", "torchaudio", "numpy", "soxr", "soundfile", "scikit-learn")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
