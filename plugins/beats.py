"""BEATs (arXiv 2212.09058): its encoder, its first tokenizer, its objective and its schedule of iterations."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.encoders.settings import BeatsConfig, PlainVitConfig
from ossicle.plugins.beats_schedule import BeatsScheduleConfig
from ossicle.tasks.objective_settings import MaskedPredictionConfig
from ossicle.tokenizers.settings import RandomProjectionConfig


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the parts of BEATs, and a plain encoder to compare its encoder with."""
    catalog.add("encoder", "beats", "ossicle.encoders.beats:Beats", config=BeatsConfig)
    catalog.add("encoder", "plain_vit", "ossicle.encoders.vit:PlainVit", config=PlainVitConfig)
    catalog.add(
        "tokenizer",
        "random_projection",
        "ossicle.tokenizers.random_projection:RandomProjection",
        config=RandomProjectionConfig,
    )
    catalog.add(
        "objective",
        "masked_prediction",
        "ossicle.tasks.masked_prediction:MaskedPrediction",
        config=MaskedPredictionConfig,
    )
    catalog.add("schedule", "beats", "ossicle.plugins.beats_schedule:BeatsSchedule", config=BeatsScheduleConfig)
