"""Optimizers and learning-rate schedules for every training. Needs no torch."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.training.optimization_config import (
    AdamWConfig,
    CosineConfig,
    MuonConfig,
    PolynomialConfig,
    WarmupStableDecayConfig,
)

_MODULE = "ossicle.training.optimization"


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the optimizers of torch, and the schedules of torch and fairseq2."""
    catalog.add("optimizer", "adamw", f"{_MODULE}:AdamW", config=AdamWConfig)
    catalog.add("optimizer", "muon", f"{_MODULE}:Muon", config=MuonConfig)
    catalog.add("lr_schedule", "polynomial", f"{_MODULE}:Polynomial", config=PolynomialConfig)
    catalog.add("lr_schedule", "cosine", f"{_MODULE}:Cosine", config=CosineConfig)
    catalog.add("lr_schedule", "warmup_stable_decay", f"{_MODULE}:WarmupStableDecay", config=WarmupStableDecayConfig)
