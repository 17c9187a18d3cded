"""How tokenizers are trained. Importable without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.choices import ObjectiveChoice, PartChoice
from ...core.config import TokenizerConfig
from ...core.experiment import TrainingConfig

if TYPE_CHECKING:
    from ...core.catalog import Catalog


class TokenizerTrainingConfig(TrainingConfig):
    """How a tokenizer is trained."""

    objective: ObjectiveChoice | None = None
    """What it learns from; the tokenizer's own objective with its defaults when absent."""

    def objective_of(self, tokenizer: PartChoice, catalog: Catalog) -> PartChoice:
        """What a tokenizer learns from: what is stated here, or its own objective with its defaults."""
        if self.objective is not None:
            return self.objective
        config = tokenizer.config
        assert isinstance(config, TokenizerConfig)
        assert config.objective is not None  # a schedule adds a training to trained tokenizers alone
        return PartChoice.of(catalog.get("objective", config.objective), {})
