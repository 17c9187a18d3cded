"""`ossicle import` and `ossicle export`: released checkpoints to artifacts and back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..checkpoints.checkpoint_config import content_key
from ..checkpoints.microsoft import Released, read_released
from ..checkpoints.tokenizer_format import release_tokenizer
from ..checkpoints.writing import Release, release_encoder
from ..core.errors import ArtifactError, OssicleError
from ..core.file_list import file_sha256
from ..core.interfaces import Encoder, FrontEnd, Head, Tokenizer
from ..core.parts import load_part
from ..core.plugin_loading import load_plugins
from ..core.stage_runner import versions
from ..core.store import Artifact, find_artifact, write_card
from ..experiment.output_paths import check_file, check_folder
from ..tasks.stages.import_checkpoint import LEFT_OVER, classes_of, save_parts

LICENCE = "unknown: the file does not say; see where it came from"


def import_file(file: Path, out: Path) -> Artifact:
    """Import a released checkpoint as an artifact.

    Args:
        out: folder of the artifact; must be empty or not exist

    Raises:
        ArtifactError: if the file cannot be read
        OssicleError: if `out` is not empty, or is a file or inside one
    """
    if file.is_dir():
        raise OssicleError(f"{file} is a folder; only released files need to be imported")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OssicleError(f"{out} is not empty; name a new folder")
    check_folder("--out", out)
    released = read_released(file)
    draft = out.parent / f".{out.name}.draft-{os.getpid()}"
    draft.mkdir(parents=True)
    try:
        parts = save_parts(released, draft, load_plugins().catalog)
        write_card(draft, _card(file, released, parts))
        if out.is_dir():
            out.rmdir()
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Artifact(out)


def _card(file: Path, released: Released, parts: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "import",
        "name": file.name,
        "key": content_key(file),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": {
            "file": file.name,
            "sha256": file_sha256(file),
            "kind": released.kind,
            "layout": released.layout,
            "licence": LICENCE,
        },
        "parts": parts,
        "metrics": classes_of(released),
        "warnings": list(released.notes),
        "versions": versions(),
    }


def export(source: Path, out: Path, *, part: str | None = None, plugins: Sequence[Path] = ()) -> Release:
    """Write an encoder, with its classifier if it has one, or a tokenizer as a released checkpoint.

    Args:
        source: folder of an artifact or of a run
        out: the file to write
        part: `encoder` or `tokenizer`; the encoder when None, if there is one
        plugins: Python files with the parts that the artifact needs, if they are not installed

    Raises:
        ArtifactError: if there is no such part, or the released code does not support it
        OssicleError: if the file cannot be written
    """
    check_file("--out", out)
    if not source.is_dir():
        raise ArtifactError(f"{source} is neither an artifact nor a run; `ossicle import` makes an artifact of a file")
    artifact = find_artifact(source)
    catalog = load_plugins(plugins).catalog
    parts = artifact.card.get("parts", {})
    part = part or ("encoder" if "encoder" in parts else "tokenizer")
    front_end = load_part(artifact, "front_end", FrontEnd, catalog)
    if part == "tokenizer":
        release = release_tokenizer(load_part(artifact, "tokenizer", Tokenizer, catalog), front_end)
        if artifact.holds(LEFT_OVER):
            release.content["model"] |= load_file(artifact.file(LEFT_OVER))
    else:
        classes = artifact.card["metrics"]
        release = release_encoder(
            load_part(artifact, "encoder", Encoder, catalog),
            front_end,
            head=load_part(artifact, "head", Head, catalog) if "head" in parts else None,
            labels=classes.get("label_names", ()),
            multi_label=classes.get("multi_label", True),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(release.content, out)
    return release
