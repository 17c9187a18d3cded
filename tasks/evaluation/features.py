"""Embed a labelled corpus with frozen parts. The action of `FeaturesStage`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...audio.patch_batches import patch_batches
from ...audio.survey import good_rows
from ...core.corpus import TEST, TRAIN, VALID
from ...core.data import PatchBatch
from ...core.distributed import compute_device
from ...core.interfaces import Encoder, FrontEnd
from ...core.manifest import Manifest
from ...core.parts import load_part
from ...core.stage_runner import StageRun
from ...core.store import Artifact
from ...encoders.pooling import encoded_views, log_mel_views
from .stage_specs import FeaturesStage

BATCH_SECONDS = 64.0


def judged_rows(survey: Artifact, manifest: Manifest) -> npt.NDArray[np.int64]:
    """Return the good rows that tasks use. Single-label corpora skip clips without a label."""
    rows = good_rows(survey, manifest, (TRAIN, VALID, TEST))
    if manifest.multi_label:
        return rows
    return rows[manifest.labels.counts[rows] > 0]


def extract(run: StageRun[FeaturesStage]) -> None:
    """Write `features.npz`: `rows`, and each view as (clips, D) float32, in the order of the rows.

    The source is an artifact with an encoder, or one with only a front end, whose log-mel statistics are the views.
    """
    source = run.inputs["source"]
    front_end = load_part(source, "front_end", FrontEnd, run.plugins.catalog)
    encoder = None
    if "encoder" in source.card["parts"]:
        encoder = load_part(source, "encoder", Encoder, run.plugins.catalog)
    manifest = run.manifest()
    rows = judged_rows(run.inputs["survey"], manifest)
    run.display.start(run.stage.name, len(rows))
    clips, views = embed(
        manifest,
        rows,
        front_end,
        encoder,
        crop_seconds=run.stage.crop_seconds,
        on_progress=run.display.advance,
    )
    run.display.finish()
    np.savez(run.folder / "features.npz", allow_pickle=False, rows=clips, **views)
    run.metrics["clips"] = len(clips)


@torch.inference_mode()
def embed(
    manifest: Manifest,
    rows: npt.NDArray[np.int64],
    front_end: FrontEnd,
    encoder: Encoder | None,
    *,
    crop_seconds: float,
    on_progress: Callable[[int], None] = lambda clips: None,
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float32]]]:
    """Pool each clip into one vector per view.

    Args:
        encoder: in evaluation mode; None for log-mel statistics
        crop_seconds: length to which longer clips are cut, from their start
        on_progress: called with the number of clips that are done

    Returns:
        The rows that could be read, ascending, and each view as (clips, D) in their order.
    """
    if encoder is not None:
        encoder.to(compute_device())
    collected: dict[str, list[Tensor]] = {}
    order: list[int] = []
    for batch in patch_batches(
        manifest,
        rows,
        front_end,
        batch_seconds=BATCH_SECONDS,
        crop_seconds=crop_seconds,
        keep_spectrogram=encoder is None,
    ):
        for name, view in _views(batch, encoder).items():
            collected.setdefault(name, []).append(view.float().cpu())
        order.extend(batch.rows)
        on_progress(len(order))
    clips = np.array(order, dtype=np.int64)
    sorting = clips.argsort()
    return clips[sorting], {name: torch.cat(parts)[sorting].numpy() for name, parts in collected.items()}


def _views(batch: PatchBatch, encoder: Encoder | None) -> dict[str, Tensor]:
    if encoder is not None:
        return encoded_views(encoder(batch))
    assert batch.spectrogram is not None  # kept if there is no encoder
    return log_mel_views(batch.spectrogram.frames, batch.spectrogram.lengths)
