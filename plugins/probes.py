"""Tasks: probes of frozen features, and fine-tuning."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.tasks.fine_tune_settings import ClassificationConfig, FineTuneConfig
from ossicle.tasks.settings import KnnProbeConfig, LinearProbeConfig


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the probes, and fine-tuning with its objective."""
    catalog.add("task", "linear_probe", "ossicle.tasks.probes:LinearProbe", config=LinearProbeConfig)
    catalog.add("task", "knn_probe", "ossicle.tasks.probes:KnnProbe", config=KnnProbeConfig)
    catalog.add("task", "fine_tune", "ossicle.tasks.fine_tuning:evaluate", config=FineTuneConfig)
    catalog.add(
        "objective", "classification", "ossicle.tasks.classification:Classification", config=ClassificationConfig
    )
