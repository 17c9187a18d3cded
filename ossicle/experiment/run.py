"""Run an experiment from its YAML to its report."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from ..core.config_files.experiment_loader import resolved_yaml
from ..core.corpora import Corpora
from ..core.display import Display, Silent
from ..core.distributed import from_first_rank, joined, rank
from ..core.stage_runner import StageRecord, run_stages, versions
from ..core.store import Store
from ..report import write_report
from ..training.memory import keep_freed_memory
from .check import CheckedExperiment, check
from .command_line import command_line
from .full_disk import naming_full_disk
from .output_paths import check_folder

T = TypeVar("T")

DEFAULT_OUT = Path("runs")
STORE = ".store"


def run(
    experiment: str | Path,
    *,
    overrides: Sequence[str] = (),
    out: str | Path = DEFAULT_OUT,
    store: str | Path | None = None,
    display: Display | None = None,
    elastic: bool = False,
) -> Path:
    """Run an experiment. Artifacts of earlier runs are reused.

    Under torchrun, all processes train together. Only the first one shows progress and writes the report.

    Args:
        experiment: path of its YAML
        overrides: `dotted.path=VALUE`, merged into the YAML
        out: folder for runs
        store: folder of artifacts; when None, `.store` in `out`, which all runs share
        elastic: whether a training may continue from checkpoints of another number of processes

    Returns:
        The run's folder, with `report.html`, `run.json` and the resolved `experiment.yaml`.

    Raises:
        ConfigError: if the experiment is invalid
        DiskFullError: if a disk is full; the same call continues the run
        Interrupted: if the run was asked to stop; the same call continues it
        OssicleError: if the processes cannot train together or cannot continue from the checkpoints, or if `out` or
            `store` is not a folder
        StoppedElsewhere: if another process ended the run, which raises the actual error
    """
    with joined():
        check_folder("--out", Path(out))
        check_folder("--store", Path(store or Path(out) / STORE))
        display = (display or Silent()) if rank() == 0 else Silent()
        corpora = Corpora(display)
        # The first process prepares corpora; the others find them.
        checked = first_rank_first(lambda: check(Path(experiment), overrides, corpora, prepare=True))
        for failure in checked.plugins.catalog.failures:
            display.warn(f"plugin {failure.source} failed: {failure.error}")
        folder = Path(out) / checked.experiment.name
        with naming_full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if rank() == 0:
                (folder / "experiment.yaml").write_text(resolved_yaml(checked.experiment))
        artifacts = Store(Path(store or Path(out) / STORE))
        started = datetime.now(UTC)
        clock = time.perf_counter()
        keep_freed_memory()
        with naming_full_disk(artifacts.root):
            records = run_stages(
                checked.stages,
                store=artifacts,
                plugins=checked.plugins,
                corpora=corpora,
                display=display,
                elastic=elastic,
            )
        if rank() == 0:
            with naming_full_disk(folder):
                _report(checked, records, folder, artifacts, started, time.perf_counter() - clock)
    return folder


def first_rank_first(action: Callable[[], T]) -> T:
    """Run a function on the first rank, then on the others, which find the files that the first one wrote."""
    if rank() == 0:
        result = action()
        from_first_rank(None)
        return result
    from_first_rank(None)
    return action()


def _report(
    checked: CheckedExperiment,
    records: Sequence[StageRecord],
    folder: Path,
    store: Store,
    started: datetime,
    seconds: float,
) -> None:
    record = _run_record(checked, records, folder, store, started, seconds)
    (folder / "run.json").write_text(json.dumps(record, indent=2))
    _gather_bad_files(records, folder)
    sections = checked.plugins.manager.hook.ossicle_report_sections(run_folder=folder)
    write_report(folder, [section for group in sections for section in group or ()])


def _run_record(
    checked: CheckedExperiment,
    records: Sequence[StageRecord],
    folder: Path,
    store: Store,
    started: datetime,
    seconds: float,
) -> dict[str, Any]:
    parts = checked.plugins.catalog.parts()
    sources = sorted({part.origin.describe() for part in parts})
    return {
        "name": checked.experiment.name,
        "command": command_line(),
        "seed": checked.experiment.seed,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "versions": versions(),
        "machine": machine(),
        "plugins": [
            {"source": source, "parts": sum(part.origin.describe() == source for part in parts)} for source in sources
        ],
        "store": os.path.relpath(store.root, folder),
        "encoder": _result(records, folder),
        "stages": [
            {
                "name": record.stage.name,
                "kind": record.stage.kind,
                "flags": record.stage.flags(),
                "key": record.key,
                "artifact": os.path.relpath(record.artifact.path, folder),
                "reused": record.reused,
                "seconds": record.artifact.card["seconds"] if record.reused else round(record.seconds, 2),
                "inputs": dict(record.stage.inputs),
                "tags": dict(record.stage.tags),
            }
            for record in records
        ],
        "warnings": [
            *(warning for record in records for warning in record.artifact.card["warnings"]),
            *(f"plugin {failure.source} failed: {failure.error}" for failure in checked.plugins.catalog.failures),
        ],
    }


def _result(records: Sequence[StageRecord], folder: Path) -> str | None:
    """Find the artifact of the last encoder that is not a control, relative to the run; None if there is none."""
    made = [one for one in records if one.stage.makes_encoder and not one.stage.tags.get("control")]
    return os.path.relpath(made[-1].artifact.path, folder) if made else None


def _gather_bad_files(records: Sequence[StageRecord], folder: Path) -> None:
    """Write the bad files of all surveyed corpora into one list next to the report."""
    surveys = [record for record in records if record.stage.is_survey]
    with (folder / "bad_files.jsonl").open("w") as file:
        for survey in surveys:
            for line in survey.artifact.file("bad_files.jsonl").read_text().splitlines():
                file.write(json.dumps({"corpus": survey.stage.tags["corpus"], **json.loads(line)}) + "\n")


def machine() -> dict[str, Any]:
    """Describe the machine that the program runs on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "device": _device(),
        "platform": platform.platform(),
    }


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
