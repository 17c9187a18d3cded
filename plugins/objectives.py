"""What stands beside BEATs' own way to learn: rival objectives, and maskings for all of them. Needs no torch."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.tasks.masking_settings import (
    BlockMaskingConfig,
    FrequencyMaskingConfig,
    InverseBlockMaskingConfig,
    TimeMaskingConfig,
    UniformMaskingConfig,
)
from ossicle.tasks.objective_settings import AveragedTeacherConfig, ReconstructionConfig


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the objectives of MAE and of data2vec, and every masking."""
    tasks = "ossicle.tasks"
    catalog.add("objective", "reconstruction", f"{tasks}.reconstruction:Reconstruction", config=ReconstructionConfig)
    catalog.add(
        "objective", "averaged_teacher", f"{tasks}.averaged_teacher:AveragedTeacher", config=AveragedTeacherConfig
    )
    maskings = "ossicle.tasks.masking"
    catalog.add("masking", "uniform", f"{maskings}:Uniform", config=UniformMaskingConfig)
    catalog.add("masking", "block", f"{maskings}:Block", config=BlockMaskingConfig)
    catalog.add("masking", "inverse_block", f"{maskings}:InverseBlock", config=InverseBlockMaskingConfig)
    catalog.add("masking", "time", f"{maskings}:Time", config=TimeMaskingConfig)
    catalog.add("masking", "frequency", f"{maskings}:Frequency", config=FrequencyMaskingConfig)
