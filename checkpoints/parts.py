"""Load front ends, encoders and classifiers from checkpoints: released files, artifacts and runs.

Notable choices:

- The loaded part is the one in the checkpoint, with its type and configuration, so artifacts made from it do not refer
  to the file.
- An experiment whose spectrogram differs from the one that a part was trained on is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..audio.front_end_config import KaldiFbankConfig
from ..audio.kaldi_fbank import KaldiFbank
from ..core.build import build
from ..core.catalog import Catalog
from ..core.choices import PartChoice
from ..core.errors import ArtifactError, OssicleError
from ..core.interfaces import Encoder, FrontEnd, Head
from ..core.parts import choice_in, load_part
from ..core.store import Artifact, find_artifact
from ..encoders.encoder_config import LinearHeadConfig
from .checkpoint_config import CheckpointConfig, EncoderCheckpointConfig, FrontEndCheckpointConfig, HeadCheckpointConfig
from .microsoft import Released, read_released


def open_checkpoint(path: Path) -> Artifact | Released:
    """Open a released file, the folder of an artifact, or the folder of a run.

    Raises:
        ArtifactError: if it is none of these
    """
    return find_artifact(path) if path.is_dir() else read_released(path)


def load_front_end(config: FrontEndCheckpointConfig, catalog: Catalog) -> FrontEnd:
    """Load the front end with its statistics.

    Raises:
        ArtifactError: if there is none
    """
    return front_end_of(open_checkpoint(config.path), catalog)


def load_encoder(config: EncoderCheckpointConfig, catalog: Catalog, front_end: FrontEnd | None = None) -> Encoder:
    """Load the encoder with its weights.

    Args:
        front_end: the front end of the experiment; must be equal to that of the checkpoint. Not compared when None.

    Raises:
        ArtifactError: if there is no encoder, or it was trained with another front end
    """
    source = open_checkpoint(config.path)
    check_front_end(source, config.path, front_end, catalog)
    return encoder_of(source, catalog)


def load_head(config: HeadCheckpointConfig, width: int, classes: int, catalog: Catalog) -> Head:
    """Load the classifier with its weights.

    Raises:
        ArtifactError: if there is none, or it was made for another width or another number of classes
    """
    source = open_checkpoint(config.path)
    if isinstance(source, Artifact):
        arguments = source.card.get("parts", {}).get("head", {}).get("arguments", {})
        made_for = arguments.get("width", width), arguments.get("classes", classes)
    else:
        made_for = source.config.shape.width, len(source.head.get("linear.bias", ()))
    if made_for != (width, classes) and "head" in roles_of(source):
        raise ArtifactError(
            f"the classifier in {config.path} takes vectors of {made_for[0]} numbers and has {made_for[1]} classes, "
            f"but {width} numbers and {classes} classes are needed: use a new head instead of the checkpoint's"
        )
    return head_of(source, catalog)


def front_end_of(source: Artifact | Released, catalog: Catalog) -> FrontEnd:
    """Load the front end of an opened checkpoint. It keeps its statistics on any corpus.

    Raises:
        ArtifactError: if there is none
    """
    if isinstance(source, Artifact):
        front_end = load_part(source, "front_end", FrontEnd, catalog)
    else:
        front_end = build(PartChoice(catalog.get("front_end", "kaldi_fbank"), source.front_end), FrontEnd)
    front_end.brings_statistics = True
    return front_end.eval()


def encoder_of(source: Artifact | Released, catalog: Catalog) -> Encoder:
    """Load the encoder of an opened checkpoint, in evaluation mode.

    Raises:
        ArtifactError: if there is none, or weights are missing, unexpected or of another shape than `cfg` states
    """
    if isinstance(source, Artifact):
        return load_part(source, "encoder", Encoder, catalog)
    if source.kind == "tokenizer":
        raise ArtifactError("this checkpoint is a tokenizer; its encoder only serves its codebook")
    choice = PartChoice(catalog.get("encoder", "beats"), source.config)
    encoder = build(choice, Encoder, patch_dim=source.front_end.patch_dim, bands=source.front_end.bands)
    load_weights(encoder, source.encoder)
    return encoder


def head_of(source: Artifact | Released, catalog: Catalog) -> Head:
    """Load the classifier of an opened checkpoint, in evaluation mode.

    Raises:
        ArtifactError: if there is none, or the weights do not fit
    """
    if isinstance(source, Artifact):
        return load_part(source, "head", Head, catalog)
    if "linear.weight" not in source.head:
        raise ArtifactError("this checkpoint has no classifier: it was not fine-tuned")
    choice = PartChoice(catalog.get("head", "linear"), LinearHeadConfig(dropout=source.head_dropout))
    head = build(choice, Head, width=source.config.shape.width, classes=len(source.head["linear.weight"]))
    load_weights(head, source.head)
    return head


def load_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights of a released part, and put it in evaluation mode.

    Raises:
        ArtifactError: if weights are missing, unexpected or of another shape
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ArtifactError(f"the weights do not fit `cfg`: {error}") from error
    module.eval()


def roles_of(source: Artifact | Released) -> set[str]:
    """List the roles of the parts in an opened checkpoint."""
    if isinstance(source, Artifact):
        return set(source.card.get("parts", {}))
    parts = {
        "encoder": {"encoder"},
        "fine_tuned": {"encoder", "head"},
        "tokenizer": {"tokenizer"},
    }
    return {"front_end"} | parts[source.kind]


def check_front_end(source: Artifact | Released, path: Path, front_end: FrontEnd | None, catalog: Catalog) -> None:
    """Check that a checkpoint was trained on the spectrogram of a front end.

    Raises:
        ArtifactError: if it was trained on another one
    """
    if front_end is not None and front_end_of(source, catalog).fingerprint() != front_end.fingerprint():
        raise ArtifactError(f"{path} {other_front_end(path)}")


def other_front_end(path: Path) -> str:
    """Return the message about a part that was trained on another spectrogram, with the remedy."""
    return (
        "was trained with other settings or statistics of the front end than the experiment's: "
        f"set `front_end: {{checkpoint: {path}}}`"
    )


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
            return [f"{config.path} holds no {config.role}; it holds: {', '.join(sorted(roles))}"]
        catalog = context.get("catalog")
        if config.role not in ("encoder", "tokenizer") or not isinstance(catalog, Catalog):
            return []
        return _front_end_problems(source, config.path, context.get("front_end"), catalog)
    except OssicleError as error:
        return [str(error)]


def _front_end_problems(source: Artifact | Released, path: Path, chosen: object, catalog: Catalog) -> list[str]:
    if isinstance(chosen, FrontEndCheckpointConfig):
        fingerprint = load_front_end(chosen, catalog).fingerprint()
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
