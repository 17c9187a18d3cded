"""Convert a checkpoint into an artifact. The action of `ImportStage`, and functions for `ossicle import`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from ...checkpoints.contents import encoder_of, front_end_of, head_of, open_checkpoint, roles_of
from ...checkpoints.microsoft import Released
from ...checkpoints.tokenizer_format import START_BUFFERS
from ...checkpoints.tokenizer_parts import tokenizer_of
from ...core.catalog import Catalog
from ...core.parts import save_part
from ...core.stage_runner import StageRun
from ...core.store import Artifact
from .specs import ImportStage

LEFT_OVER = "released.safetensors"
"""The tensors of a released file that no part contains. They are needed to export it again."""
_MAKERS = {"front_end": front_end_of, "encoder": encoder_of, "head": head_of, "tokenizer": tokenizer_of}


def import_checkpoint(run: StageRun[ImportStage]) -> None:
    """Convert the stage's checkpoint into an artifact with its front end and its trained parts.

    Raises:
        ArtifactError: if the checkpoint cannot be read
    """
    source = open_checkpoint(run.stage.checkpoint.path)
    if isinstance(source, Artifact):
        run.parts |= _copied(source, run.folder)
        run.metrics |= {name: source.card["metrics"][name] for name in _CLASSES & source.card["metrics"].keys()}
        return
    run.parts |= save_parts(source, run.folder, run.plugins.catalog)
    run.metrics |= classes_of(source)
    run.warnings += source.notes


def parts_of(source: Artifact | Released, catalog: Catalog) -> dict[str, nn.Module]:
    """Load every part of an opened checkpoint, by role, in evaluation mode."""
    roles = roles_of(source)
    return {role: make(source, catalog) for role, make in _MAKERS.items() if role in roles}


def save_parts(released: Released, folder: Path, catalog: Catalog) -> dict[str, Any]:
    """Write the parts of a released file, and return their entries for an artifact's card."""
    left_over = {name: value for name, value in released.quantiser.items() if name in START_BUFFERS}
    if left_over:
        save_file(left_over, folder / LEFT_OVER)
    return {role: save_part(folder, role, part) for role, part in parts_of(released, catalog).items()}


_CLASSES = {"label_names", "multi_label"}


def classes_of(released: Released) -> Mapping[str, Any]:
    """Return the metrics that describe a classifier in an artifact's card, as fine-tuning writes them."""
    if released.kind != "fine_tuned":
        return {}
    return {"label_names": list(released.labels), "multi_label": released.multi_label}


def _copied(source: Artifact, folder: Path) -> dict[str, Any]:
    entries = {role: entry for role, entry in source.card["parts"].items() if role in _MAKERS}
    for name in (*(f"{role}.safetensors" for role in entries), LEFT_OVER):
        if source.holds(name):
            shutil.copyfile(source.file(name), folder / name)
    return entries
