"""Objectives besides those of BEATs, and the maskings that all objectives can use. Needs no torch."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.tasks.objectives.masking_config import (
    BlockMaskingConfig,
    FrequencyMaskingConfig,
    InverseBlockMaskingConfig,
    TimeMaskingConfig,
    UniformMaskingConfig,
)
from ossicle.tasks.objectives.objective_config import AveragedTeacherConfig, ReconstructionConfig
from ossicle.tasks.stages.specs import EncoderStage, PretrainStage


@hookimpl
def ossicle_register_part_kinds(catalog: Catalog) -> None:
    """Add maskings as a kind of part."""
    interface = "ossicle.tasks.objectives.masking:Masking"
    catalog.add_part_kind("masking", interface, "Which patches of a training clip are hidden from the encoder.")


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the objectives of MAE and of data2vec, every masking, and the stages that pre-train with them."""
    objectives = "ossicle.tasks.objectives"
    catalog.add(
        "objective", "reconstruction", f"{objectives}.reconstruction:Reconstruction", config=ReconstructionConfig
    )
    catalog.add(
        "objective", "averaged_teacher", f"{objectives}.averaged_teacher:AveragedTeacher", config=AveragedTeacherConfig
    )
    maskings = "ossicle.tasks.objectives.masking"
    catalog.add("masking", "uniform", f"{maskings}:Uniform", config=UniformMaskingConfig)
    catalog.add("masking", "block", f"{maskings}:Block", config=BlockMaskingConfig)
    catalog.add("masking", "inverse_block", f"{maskings}:InverseBlock", config=InverseBlockMaskingConfig)
    catalog.add("masking", "time", f"{maskings}:Time", config=TimeMaskingConfig)
    catalog.add("masking", "frequency", f"{maskings}:Frequency", config=FrequencyMaskingConfig)
    catalog.add_stage(EncoderStage)
    catalog.add_stage(PretrainStage)
