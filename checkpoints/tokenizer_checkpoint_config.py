"""A tokenizer that comes out of a checkpoint; importable without torch."""

from __future__ import annotations

from typing import ClassVar

from ..core.config import TokenizerConfig
from .checkpoint_config import CheckpointConfig


class TokenizerCheckpointConfig(CheckpointConfig, TokenizerConfig):
    """The tokenizer of a checkpoint, frozen: a released file, an artifact, or that of a run's last iteration."""

    role: ClassVar[str] = "tokenizer"
