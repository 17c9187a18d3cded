"""BEATs (arXiv 2212.09058): its encoder, tokenizers, objectives and schedule of iterations."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.encoders.settings import AttentiveHeadConfig, BeatsConfig, LinearHeadConfig, PlainVitConfig
from ossicle.plugins.beats_schedule import BeatsScheduleConfig, ContinueScheduleConfig
from ossicle.plugins.plain_schedules import ScratchConfig, SingleConfig
from ossicle.tasks.fine_tune_settings import PooledHeadConfig
from ossicle.tasks.objective_settings import DistillationConfig, MaskedPredictionConfig
from ossicle.tokenizers.settings import RandomProjectionConfig, SelfDistilledConfig


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the parts of BEATs, and a plain encoder to compare its encoder with."""
    catalog.add("encoder", "beats", "ossicle.encoders.beats:Beats", config=BeatsConfig)
    catalog.add("encoder", "plain_vit", "ossicle.encoders.vit:PlainVit", config=PlainVitConfig)
    catalog.add("head", "linear", "ossicle.encoders.head:LinearHead", config=LinearHeadConfig)
    catalog.add("head", "attentive", "ossicle.encoders.head:AttentiveHead", config=AttentiveHeadConfig)
    catalog.add("head", "pooled", "ossicle.tasks.pooled_head:PooledHead", config=PooledHeadConfig)
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
        "ossicle.tasks.masked_prediction:MaskedPrediction",
        config=MaskedPredictionConfig,
    )
    catalog.add("objective", "distillation", "ossicle.tasks.distillation:Distillation", config=DistillationConfig)
    turns, plain = "ossicle.plugins.beats_schedule", "ossicle.plugins.plain_schedules"
    catalog.add("schedule", "beats", f"{turns}:BeatsSchedule", config=BeatsScheduleConfig)
    catalog.add("schedule", "continue", f"{turns}:ContinueSchedule", config=ContinueScheduleConfig)
    catalog.add("schedule", "single", f"{plain}:Single", config=SingleConfig)
    catalog.add("schedule", "scratch", f"{plain}:Scratch", config=ScratchConfig)
