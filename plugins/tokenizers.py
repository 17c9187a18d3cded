"""Tokenizers besides those of BEATs, and controls that a study of tokenizers should include. Needs no torch."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.tasks.stages.specs import TokenizerStage, TokensStage
from ossicle.tokenizers.tokenizer_config import (
    FsqDistilledConfig,
    KMeansConfig,
    PositionConfig,
    ResidualDistilledConfig,
    ShuffledConfig,
)


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer k-means as in HuBERT, other quantisers for BEATs' distillation, controls, and the stages of tokenizers."""
    tokenizers = "ossicle.tokenizers"
    catalog.add("tokenizer", "kmeans", f"{tokenizers}.kmeans_tokenizer:KMeans", config=KMeansConfig)
    catalog.add("tokenizer", "fsq_distilled", f"{tokenizers}.finite_scalar:FsqDistilled", config=FsqDistilledConfig)
    catalog.add(
        "tokenizer", "residual_distilled", f"{tokenizers}.residual:ResidualDistilled", config=ResidualDistilledConfig
    )
    catalog.add("tokenizer", "position", f"{tokenizers}.controls:Position", config=PositionConfig, aliases=["place"])
    catalog.add("tokenizer", "shuffled", f"{tokenizers}.controls:Shuffled", config=ShuffledConfig)
    catalog.add_stage(TokenizerStage)
    catalog.add_stage(TokensStage)
