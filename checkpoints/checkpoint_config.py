"""The configurations of parts from a checkpoint: `encoder: {checkpoint: ./BEATs_iter3.pt}` in a YAML.

Importable without torch. torch is imported when an experiment is checked, which reads the checkpoint.

Notable choices:

- The content of the file, or the key of the artifact, enters a stage's key. Its path does not, so it can be moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ..core.catalog import Catalog
from ..core.config import Config
from ..core.errors import ArtifactError


class CheckpointConfig(Config):
    """A checkpoint: a released file, the folder of an artifact, or the folder of a run with its last encoder."""

    role: ClassVar[str]

    path: Path = Field(strict=False)
    """The file or folder. `{checkpoint: PATH}` is short for `{type: checkpoint, path: PATH}`."""

    def identity(self) -> Mapping[str, Any]:
        return {"content": content_key(self.path)}

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        from .compatibility import problems_of

        return problems_of(self, context)


class EncoderCheckpointConfig(CheckpointConfig):
    """The encoder of a checkpoint with its weights: a released file, an artifact, or the last encoder of a run."""

    role: ClassVar[str] = "encoder"

    def compatibility_facts(self, catalog: Catalog) -> Mapping[str, object]:
        from .compatibility import encoder_facts

        return encoder_facts(self.path, catalog)


class FrontEndCheckpointConfig(CheckpointConfig):
    """The front end of a checkpoint, with its statistics."""

    role: ClassVar[str] = "front_end"

    def compatibility_facts(self, catalog: Catalog) -> Mapping[str, object]:
        from .compatibility import front_end_facts

        return front_end_facts(self.path, catalog)


class HeadCheckpointConfig(CheckpointConfig):
    """The classifier of a fine-tuned checkpoint. Its classes must be those of the corpus, in the same order."""

    role: ClassVar[str] = "head"


def content_key(path: Path) -> str:
    """Compute a key of the content of a checkpoint: the SHA-256 of a file, or the key of an artifact.

    The key includes a `config.yaml` next to the file, because ESPnet's files are read together with it.

    Raises:
        ArtifactError: if there is no checkpoint
    """
    from ..core.file_list import file_sha256
    from ..core.store import find_artifact

    if path.is_dir():
        artifact = find_artifact(path)
        return str(artifact.card["key"])
    if not path.is_file():
        raise ArtifactError(f"`{path}` does not exist")
    beside = path.parent / "config.yaml"
    return "".join(file_sha256(file) for file in (path, beside) if file.is_file())
