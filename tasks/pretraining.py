"""Pre-train an encoder: the action of the pre-training stages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..audio.pipeline import clip_batches, training_pipeline
from ..audio.surveying import good_rows
from ..core.engine import train
from ..core.errors import ArtifactError
from ..core.experiment import PretrainConfig
from ..core.interfaces import Encoder, FrontEnd, Objective, Tokenizer
from ..core.parts import build, load_part, save_part
from ..core.running import StageRun

PICTURED_CLIPS = 6
HISTOGRAMS = "histograms.jsonl"
TRAIN_LOG = Path("metrics", "train.jsonl")
"""Where fairseq2 writes its metrics."""


def initialise(run: StageRun) -> None:
    """Write an encoder as its seed draws it, beside the front end that it was made for."""
    front_end = load_part(run.inputs["survey"], "front_end", FrontEnd, run.plugins.catalog)
    _save_encoder(run, _build_encoder(run, front_end), front_end)


def pretrain(run: StageRun) -> None:
    """Train the objective that the settings name, and keep the parts that it hands on.

    Raises:
        ArtifactError: if the tokenizer was made for another front end
    """
    training: PretrainConfig = run.stage.settings["training"]
    catalog = run.plugins.catalog
    front_end = load_part(run.inputs["survey"], "front_end", FrontEnd, catalog)
    tokenizer = load_part(run.inputs["tokenizer"], "tokenizer", Tokenizer, catalog)
    _check_front_end(run, front_end)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = _build_encoder(run, front_end)
    objective = build(
        training.objective,
        Objective,
        seed=run.stage.seed,
        encoder=encoder,
        tokenizer=tokenizer.to(device),
        patch_dim=front_end.patch_dim,
        bands=front_end.bands,
    )
    manifest = run.manifest()
    rows = good_rows(run.inputs["survey"], manifest, training.splits)
    pipeline = training_pipeline(
        manifest,
        rows,
        front_end,
        batch_seconds=training.batch_seconds,
        crop_seconds=training.crop_seconds,
        seed=run.stage.seed,
    )
    for log in (run.work / TRAIN_LOG, run.work / HISTOGRAMS):
        _drop_unfinished_line(log)
    summary = train(
        objective,
        front_end,
        pipeline,
        training,
        folder=run.work,
        seed=run.stage.seed,
        device=device,
        display=run.display,
        on_publish=lambda step, metrics: _publish(run, step, metrics),
    )
    run.metrics |= {
        "steps": summary.steps,
        "audio_hours": round(summary.audio_seconds / 3600, 3),
        "wall_seconds": round(summary.wall_seconds, 1),
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
    }
    _save_encoder(run, objective.parts()["encoder"], front_end)
    run.copy_part("tokenizer", "tokenizer")
    _keep_curves(run)
    _keep_pictures(run, objective, front_end, training, device)


def _build_encoder(run: StageRun, front_end: FrontEnd) -> Encoder:
    return build(
        run.stage.settings["encoder"],
        Encoder,
        seed=run.stage.seed,
        patch_dim=front_end.patch_dim,
        bands=front_end.bands,
    )


def _save_encoder(run: StageRun, encoder: nn.Module, front_end: FrontEnd) -> None:
    run.parts["encoder"] = save_part(
        run.folder,
        "encoder",
        encoder,
        run.stage.settings["encoder"],
        patch_dim=front_end.patch_dim,
        bands=front_end.bands,
    )
    run.copy_part("survey", "front_end")


def _check_front_end(run: StageRun, front_end: FrontEnd) -> None:
    other = load_part(run.inputs["tokenizer"], "front_end", FrontEnd, run.plugins.catalog)
    if other.fingerprint() != front_end.fingerprint():
        raise ArtifactError(
            f"the tokenizer in {run.inputs['tokenizer'].path} was made for another front end or other statistics than "
            f"those in {run.inputs['survey'].path}; tokenizer and encoder must hear the same spectrogram"
        )


def _publish(run: StageRun, step: int, metrics: Mapping[str, Any]) -> None:
    """Keep histograms and warnings of a step; fairseq2's recorders keep the plain figures."""
    plain = {name: value for name, value in metrics.items() if not isinstance(value, Tensor | list)}
    histograms = {name: value.tolist() for name, value in metrics.items() if isinstance(value, Tensor)}
    with (run.work / HISTOGRAMS).open("a") as file:
        file.write(json.dumps({"step": step, "warnings": metrics["warnings"], **histograms}) + "\n")
    run.plugins.manager.hook.ossicle_step_end(stage=run.stage.name, step=step, metrics=plain)


def _drop_unfinished_line(path: Path) -> None:
    """Cut off what a killed run was writing, so that the next line does not run into it."""
    if path.is_file():
        written = path.read_bytes()
        path.write_bytes(written[: written.rfind(b"\n") + 1])


def _last_per_step(path: Path, key: str) -> list[dict[str, Any]]:
    """Read JSON lines; after an interruption a step can appear twice, and the last one counts."""
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [record for _, record in sorted({record[key]: record for record in records}.items())]


def _keep_curves(run: StageRun) -> None:
    """Write `metrics.jsonl`, `codebook_usage.npz` and the warnings of the whole training."""
    with (run.folder / "metrics.jsonl").open("w") as file:
        for record in _last_per_step(run.work / TRAIN_LOG, "Step"):
            step, time = record.pop("Step"), record.pop("Time")
            file.write(json.dumps({"step": step, "time": time, **record}) + "\n")
    counted = _last_per_step(run.work / HISTOGRAMS, "step")
    if counted and "labels" in counted[0]:
        np.savez_compressed(
            run.folder / "codebook_usage.npz",
            steps=np.array([record["step"] for record in counted]),
            counts=np.array([record["labels"] for record in counted], dtype=np.int32),
        )
    first: dict[str, str] = {}
    for record in counted:
        for warning in record["warnings"]:
            first.setdefault(warning.partition(":")[0], f"{run.stage.name}, step {record['step']}: {warning}")
    run.warnings.extend(first.values())
    tensorboard = run.work / "tb"
    if tensorboard.is_dir():
        # Not moved: a run that is killed before its artifact is kept finds its work whole.
        shutil.copytree(tensorboard, run.folder / "tensorboard")


@torch.no_grad()
def _keep_pictures(
    run: StageRun, objective: Objective, front_end: FrontEnd, training: PretrainConfig, device: torch.device
) -> None:
    """Write `pictures.npz`: a few clips with their tokens, what was hidden and what was predicted there."""
    manifest = run.manifest()
    rows = good_rows(run.inputs["survey"], manifest, training.splits)
    chosen = rows[np.linspace(0, len(rows) - 1, min(PICTURED_CLIPS, len(rows))).astype(int)]
    kept: dict[str, Any] = {"column_seconds": float(front_end.column_times(2)[1, 0])}
    objective.eval()
    for place, row in enumerate(chosen):
        for batch in clip_batches(manifest, np.array([row]), front_end, batch_seconds=1.0, crop_seconds=4.0):
            batch.to(device)
            patches = front_end.patches(batch)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(run.stage.seed)
                arrays = objective.arrays(patches)
            if not arrays:
                return
            kept |= {f"{name}_{place}": array[0].cpu().numpy() for name, array in arrays.items()}
            kept |= {
                f"spectrogram_{place}": batch.frames[0].cpu().numpy().astype(np.float16),
                f"columns_{place}": patches.grid.columns,
                f"bands_{place}": patches.grid.bands,
                f"path_{place}": str(manifest.paths[row]),
            }
    np.savez_compressed(run.folder / "pictures.npz", **kept)
