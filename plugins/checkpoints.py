"""Parts from checkpoints: `encoder: {checkpoint: ./BEATs_iter3.pt}`."""

from __future__ import annotations

from ossicle.checkpoints.checkpoint_config import (
    EncoderCheckpointConfig,
    FrontEndCheckpointConfig,
    HeadCheckpointConfig,
)
from ossicle.checkpoints.tokenizer_checkpoint_config import TokenizerCheckpointConfig
from ossicle.core.catalog import Catalog
from ossicle.core.choices import CHECKPOINT
from ossicle.core.hooks import hookimpl
from ossicle.tasks.stages.specs import ImportStage


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer a part `checkpoint` of every kind that a checkpoint can contain, and the stage that imports one."""
    encoders, tokenizers = "ossicle.checkpoints.parts", "ossicle.checkpoints.tokenizer_parts"
    catalog.add("front_end", CHECKPOINT, f"{encoders}:load_front_end", config=FrontEndCheckpointConfig)
    catalog.add("encoder", CHECKPOINT, f"{encoders}:load_encoder", config=EncoderCheckpointConfig)
    catalog.add("head", CHECKPOINT, f"{encoders}:load_head", config=HeadCheckpointConfig)
    catalog.add("tokenizer", CHECKPOINT, f"{tokenizers}:load_tokenizer", config=TokenizerCheckpointConfig)
    catalog.add_stage(ImportStage)
