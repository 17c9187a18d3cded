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
    """The training objective; the tokenizer's default objective when absent."""

    def objective_of(self, tokenizer: PartChoice, catalog: Catalog) -> PartChoice:
        """Return the training objective of a tokenizer: `objective`, or the tokenizer's default objective."""
        if self.objective is not None:
            return self.objective
        config = tokenizer.config
        assert isinstance(config, TokenizerConfig)
        assert config.objective is not None  # schedules add a training only to tokenizers with an objective
        return PartChoice.of(catalog.get("objective", config.objective), {})
