"""BEATs (arXiv 2212.09058): its encoder, tokenizers, objectives and schedule of iterations."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.encoders.encoder_config import (
    AttentiveHeadConfig,
    BeatsConfig,
    LinearHeadConfig,
    PlainVitConfig,
    PooledHeadConfig,
)
from ossicle.plugins.schedules.beats import BeatsScheduleConfig, ContinueScheduleConfig
from ossicle.plugins.schedules.plain import ScratchConfig, SingleConfig
from ossicle.tasks.objectives.objective_config import DistillationConfig, MaskedPredictionConfig
from ossicle.tokenizers.tokenizer_config import RandomProjectionConfig, SelfDistilledConfig


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the parts of BEATs, and a plain encoder to compare its encoder with."""
    catalog.add("encoder", "beats", "ossicle.encoders.beats:Beats", config=BeatsConfig)
    catalog.add("encoder", "plain_vit", "ossicle.encoders.vit:PlainVit", config=PlainVitConfig)
    catalog.add("head", "linear", "ossicle.encoders.head:LinearHead", config=LinearHeadConfig)
    catalog.add("head", "attentive", "ossicle.encoders.head:AttentiveHead", config=AttentiveHeadConfig)
    catalog.add("head", "pooled", "ossicle.encoders.head:PooledHead", config=PooledHeadConfig)
    catalog.add(
        "tokenizer",
        "random_projection",
        "ossicle.tokenizers.random_projection:RandomProjection",
        config=RandomProjectionConfig,
    )
    catalog.add(
        "tokenizer", "self_distilled", "ossicle.tokenizers.self_distilled:SelfDistilled", config=SelfDistilledConfig
    )
    catalog.add(
        "objective",
        "masked_prediction",
        "ossicle.tasks.objectives.masked_prediction:MaskedPrediction",
        config=MaskedPredictionConfig,
    )
    catalog.add(
        "objective", "distillation", "ossicle.tasks.objectives.distillation:Distillation", config=DistillationConfig
    )
    beats, plain = "ossicle.plugins.schedules.beats", "ossicle.plugins.schedules.plain"
    catalog.add("schedule", "beats", f"{beats}:BeatsSchedule", config=BeatsScheduleConfig)
    catalog.add("schedule", "continue", f"{beats}:ContinueSchedule", config=ContinueScheduleConfig)
    catalog.add("schedule", "single", f"{plain}:Single", config=SingleConfig)
    catalog.add("schedule", "scratch", f"{plain}:Scratch", config=ScratchConfig)
