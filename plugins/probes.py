"""Tasks: probes of frozen features, and fine-tuning."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.tasks.evaluation.probe_config import KnnProbeConfig, LinearProbeConfig
from ossicle.tasks.objectives.objective_config import ClassificationConfig
from ossicle.tasks.stages.fine_tune_config import FineTuneConfig


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the probes, and fine-tuning with its objective."""
    catalog.add("task", "linear_probe", "ossicle.tasks.evaluation.probes:LinearProbe", config=LinearProbeConfig)
    catalog.add("task", "knn_probe", "ossicle.tasks.evaluation.probes:KnnProbe", config=KnnProbeConfig)
    catalog.add("task", "fine_tune", "ossicle.tasks.stages.fine_tune:evaluate", config=FineTuneConfig)
    catalog.add(
        "objective",
        "classification",
        "ossicle.tasks.objectives.classification:Classification",
        config=ClassificationConfig,
    )
