"""Train an objective on a corpus. All training stages use this."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..audio.patch_batches import patch_batches, patches_of
from ..audio.pipeline import training_pipeline
from ..audio.survey import good_rows
from ..core.distributed import compute_device, rank, world_size
from ..core.experiment import TrainingConfig
from ..core.interfaces import FrontEnd, Objective
from ..core.stage_runner import StageRun
from ..core.stages import CorpusStage
from . import objective_extras as extras
from .engine import CheckpointHistory, train

if TYPE_CHECKING:
    from fairseq2.data.data_pipeline import DataPipeline

PICTURED_CLIPS = 6
PICTURED_SECONDS = 4.0
HISTOGRAMS = "histograms.jsonl"
TRAIN_LOG = Path("metrics", "train.jsonl")
"""The file that fairseq2 writes metrics to."""


def train_on_corpus(
    run: StageRun[CorpusStage],
    objective: Objective,
    front_end: FrontEnd,
    training: TrainingConfig,
    *,
    rows: npt.NDArray[np.int64] | None = None,
    weights: npt.NDArray[np.float64] | None = None,
    keep_checkpoints: int = 1,
    choose_weights: Callable[[CheckpointHistory], None] | None = None,
    monitor: Callable[[int], Mapping[str, float]] = lambda step: {},
) -> None:
    """Train `objective` on the stage's corpus, and write its curves and pictures.

    An interrupted training continues where it stopped. The objective is prepared only before the first step. Each of
    several processes trains on its share of every batch, and the first one writes.

    Args:
        rows: the clips to train on; the good ones of `training.splits` if None
        weights: as in `audio.pipeline.training_pipeline`; those of the manifest when None
        keep_checkpoints, choose_weights: as in `training.engine.train`
        monitor: returns additional metrics for a step whose metrics are published
    """
    manifest = run.manifest()
    if rows is None:
        rows = good_rows(run.inputs["survey"], manifest, training.splits)
    if weights is None and manifest.weights.size:
        weights = manifest.weights[rows]

    def stream(first: int, *, share: int = 0, shares: int = 1) -> DataPipeline:
        return training_pipeline(
            manifest,
            rows,
            front_end,
            batch_seconds=training.batch_seconds / shares,
            crop_seconds=training.crop_seconds,
            seed=run.stage.seed,
            first=first,
            rank=share,
            world_size=shares,
            weights=weights,
        )

    if rank() == 0:
        for log in (run.work / TRAIN_LOG, run.work / HISTOGRAMS):
            _drop_unfinished_line(log)
    summary = train(
        objective,
        front_end,
        partial(stream, share=rank(), shares=world_size()),
        training,
        first_batches=lambda: patches_of(stream(0), front_end),
        folder=run.work,
        seed=run.stage.seed,
        device=compute_device(),
        display=run.display,
        on_publish=lambda step, metrics: _publish(run, step, metrics, monitor(step)),
        keep_checkpoints=keep_checkpoints,
        choose_weights=choose_weights,
        elastic=run.elastic,
    )
    if rank() > 0:
        return
    run.metrics |= {
        "steps": summary.steps,
        "audio_hours": round(summary.audio_seconds / 3600, 3),
        "wall_seconds": round(summary.wall_seconds, 1),
        "cpu_seconds": round(summary.cpu_seconds, 1),
    }
    _write_curves(run)
    _write_pictures(run, objective, front_end, rows)


def _publish(run: StageRun[CorpusStage], step: int, metrics: Mapping[str, Any], monitored: Mapping[str, float]) -> None:
    """Store what fairseq2's recorders leave out: histograms and warnings of a step, and the results of the monitor."""
    plain = {name: value for name, value in metrics.items() if not isinstance(value, Tensor | list)} | dict(monitored)
    histograms = {name: value.tolist() for name, value in metrics.items() if isinstance(value, Tensor)}
    with (run.work / HISTOGRAMS).open("a") as file:
        file.write(
            json.dumps({"step": step, "warnings": metrics["warnings"], "monitored": monitored, **histograms}) + "\n"
        )
    run.plugins.manager.hook.ossicle_step_end(stage=run.stage.name, step=step, metrics=plain)


def _drop_unfinished_line(path: Path) -> None:
    """Remove the incomplete last line of a killed run, so that the next line starts on a new line."""
    if path.is_file():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _last_per_step(path: Path, key: str) -> list[dict[str, Any]]:
    """Read JSON lines. After an interruption a step can appear twice. The last record counts."""
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [record for _, record in sorted({record[key]: record for record in records}.items())]


def _write_curves(run: StageRun[CorpusStage]) -> None:
    """Write `metrics.jsonl`, `codebook_usage.npz` and the warnings of the whole training."""
    counted = _last_per_step(run.work / HISTOGRAMS, "step")
    monitored = {record["step"]: record["monitored"] for record in counted}
    with (run.folder / "metrics.jsonl").open("w") as file:
        for record in _last_per_step(run.work / TRAIN_LOG, "Step"):
            step, time = record.pop("Step"), record.pop("Time")
            if isinstance(record.get("lr"), list):
                record["lr"] = max(record["lr"])
            file.write(json.dumps({"step": step, "time": time, **record, **monitored.get(step, {})}) + "\n")
    if counted and "tokens" in counted[0]:
        np.savez_compressed(
            run.folder / "codebook_usage.npz",
            steps=np.array([record["step"] for record in counted]),
            counts=np.array([record["tokens"] for record in counted], dtype=np.int32),
        )
    first: dict[str, str] = {}
    for record in counted:
        for warning in record["warnings"]:
            first.setdefault(warning.partition(":")[0], f"{run.stage.name}, step {record['step']}: {warning}")
    run.warnings.extend(first.values())
    tensorboard = run.work / "tb"
    if tensorboard.is_dir():
        # Copied, not moved, because a run that is killed before the artifact is committed needs the files again.
        shutil.copytree(tensorboard, run.folder / "tensorboard")


@torch.no_grad()
def _write_pictures(
    run: StageRun[CorpusStage], objective: Objective, front_end: FrontEnd, rows: npt.NDArray[np.int64]
) -> None:
    """Write `pictures.npz`: a few clips with their tokens, hidden patches and predictions."""
    manifest = run.manifest()
    chosen = rows[np.linspace(0, len(rows) - 1, min(PICTURED_CLIPS, len(rows))).astype(int)]
    pictures: dict[str, Any] = {"column_seconds": float(front_end.column_times(2)[1, 0])}
    objective.eval()
    options: dict[str, Any] = {"batch_seconds": 1.0, "crop_seconds": PICTURED_SECONDS, "keep_spectrogram": True}
    for place, row in enumerate(chosen):
        for batch in patch_batches(manifest, np.array([row]), front_end, **options):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(run.stage.seed)
                arrays = extras.arrays(objective, batch)
            if not arrays:
                return
            assert batch.spectrogram is not None  # `keep_spectrogram` is set
            pictures |= {f"{name}_{place}": array[0].cpu().numpy() for name, array in arrays.items()}
            pictures |= {
                f"spectrogram_{place}": batch.spectrogram.frames[0].cpu().numpy().astype(np.float16),
                f"columns_{place}": batch.grid.columns,
                f"bands_{place}": batch.grid.bands,
                f"path_{place}": str(manifest.paths[row]),
            }
    np.savez_compressed(run.folder / "pictures.npz", **pictures)
