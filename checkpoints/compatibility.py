"""Check whether an experiment can use a checkpoint, and find what the checkpoint states about the experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..audio.front_end_config import KaldiFbankConfig
from ..audio.kaldi_fbank import KaldiFbank
from ..core.catalog import Catalog
from ..core.errors import OssicleError
from ..core.parts import choice_in
from ..core.store import Artifact
from .checkpoint_config import CheckpointConfig, FrontEndCheckpointConfig
from .contents import front_end_of, open_checkpoint, other_front_end, roles_of
from .microsoft import Released


def problems_of(config: CheckpointConfig, context: Mapping[str, object]) -> list[str]:
    """List the reasons why an experiment cannot use a checkpoint.

    Args:
        context: as in `Config.check_compatibility`; `front_end` is the configuration of the experiment's front end.
            If it or the `catalog` is missing, spectrograms are not compared.
    """
    try:
        source = open_checkpoint(config.path)
        roles = roles_of(source)
        if config.role not in roles:
            return [f"{config.path} holds no {config.role}; it holds: {', '.join(sorted(roles)) or 'no parts'}"]
        catalog = context.get("catalog")
        if not isinstance(catalog, Catalog):
            return []
        if isinstance(source, Artifact):
            choice_in(source, config.role, catalog)  # fails if its plugin is not loaded
        if config.role not in ("encoder", "tokenizer"):
            return []
        return _front_end_problems(source, config.path, context.get("front_end"), catalog)
    except OssicleError as error:
        return [str(error)]


def _front_end_problems(source: Artifact | Released, path: Path, chosen: object, catalog: Catalog) -> list[str]:
    if isinstance(chosen, FrontEndCheckpointConfig):
        fingerprint = front_end_of(open_checkpoint(chosen.path), catalog).fingerprint()
    elif isinstance(chosen, KaldiFbankConfig):
        measured = chosen.mean is None or chosen.std is None
        fingerprint = "measured on the corpus" if measured else KaldiFbank(chosen).fingerprint()
    else:
        return []
    same = front_end_of(source, catalog).fingerprint() == fingerprint
    return [] if same else [other_front_end(path)]


def encoder_facts(path: Path, catalog: Catalog) -> Mapping[str, object]:
    """Return what an encoder's checkpoint adds to the context of `check_compatibility`.

    Nothing if the checkpoint cannot be read.
    """
    try:
        source = open_checkpoint(path)
        if isinstance(source, Released):
            return source.config.compatibility_facts(catalog)
        return choice_in(source, "encoder", catalog).config.compatibility_facts(catalog)
    except OssicleError:
        return {}


def front_end_facts(path: Path, catalog: Catalog) -> Mapping[str, object]:
    """Return what a front end's checkpoint adds to the context of `check_compatibility`.

    Nothing if the checkpoint cannot be read.
    """
    try:
        front_end = front_end_of(open_checkpoint(path), catalog)
    except OssicleError:
        return {}
    return {
        "patch_dim": front_end.patch_dim,
        "bands": front_end.bands,
        "front_end": FrontEndCheckpointConfig(path=path),
    }
