"""The configuration of a tokenizer from a checkpoint. Importable without torch."""

from __future__ import annotations

from typing import ClassVar

from ..core.config import TokenizerConfig
from .checkpoint_config import CheckpointConfig


class TokenizerCheckpointConfig(CheckpointConfig, TokenizerConfig):
    """The frozen tokenizer of a checkpoint: a released file, an artifact, or the last iteration of a run."""

    role: ClassVar[str] = "tokenizer"
