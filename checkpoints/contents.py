"""Read the contents of checkpoints: released files, artifacts and runs.

Notable choices:

- The loaded part is the one in the checkpoint, with its type and configuration, so artifacts made from it do not refer
  to the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..core.build import build
from ..core.catalog import Catalog
from ..core.choices import PartChoice
from ..core.errors import ArtifactError
from ..core.interfaces import Encoder, FrontEnd, Head
from ..core.parts import load_part
from ..core.store import Artifact, find_artifact
from ..encoders.encoder_config import LinearHeadConfig
from .microsoft import Released, read_released


def open_checkpoint(path: Path) -> Artifact | Released:
    """Open a released file, the folder of an artifact, or the folder of a run.

    Raises:
        ArtifactError: if it is none of these
    """
    return find_artifact(path) if path.is_dir() else read_released(path)


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
