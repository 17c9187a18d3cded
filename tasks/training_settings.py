"""How tokenizers are trained. Importable without torch."""

from __future__ import annotations

from ..core.config import ObjectiveChoice
from ..core.experiment import TrainingConfig


class TokenizerTrainingConfig(TrainingConfig):
    """How a tokenizer is trained."""

    objective: ObjectiveChoice | None = None
    """What it learns from; the tokenizer's own objective with its defaults when absent."""
