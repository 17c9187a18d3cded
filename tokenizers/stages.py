"""The stage that prepares a tokenizer; importable without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.config import PartChoice
from ..core.stages import Stage

if TYPE_CHECKING:
    from ..core.experiment import TrainingConfig


def tokenizer_stage(
    name: str, tokenizer: PartChoice, *, corpus: PartChoice, survey: str, training: TrainingConfig, seed: int
) -> Stage:
    """A stage that draws or fits `tokenizer` on the corpus that `survey` looked at."""
    return Stage(
        name=name,
        kind="tokenizer",
        action="ossicle.tokenizers.preparation:prepare",
        settings={
            "tokenizer": tokenizer,
            "corpus": corpus,
            "splits": training.splits,
            "batch_seconds": training.batch_seconds,
            "crop_seconds": training.crop_seconds,
        },
        inputs={"survey": survey},
        seed=seed,
    )
