"""Probes of frozen features."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.tasks.settings import KnnProbeConfig, LinearProbeConfig


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the probes."""
    catalog.add("task", "linear_probe", "ossicle.tasks.probes:LinearProbe", config=LinearProbeConfig)
    catalog.add("task", "knn_probe", "ossicle.tasks.probes:KnnProbe", config=KnnProbeConfig)
