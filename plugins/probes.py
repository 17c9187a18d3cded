"""Tasks: probes of frozen features, and fine-tuning."""

from __future__ import annotations

from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl
from ossicle.tasks.evaluation.probe_config import KnnProbeConfig, LinearProbeConfig
from ossicle.tasks.evaluation.stage_specs import EvaluateStage, FeaturesStage
from ossicle.tasks.objectives.objective_config import ClassificationConfig
from ossicle.tasks.stages.fine_tune_config import FineTuneConfig
from ossicle.tasks.stages.specs import FineTunedEvaluationStage, FineTuneStage


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the probes, fine-tuning with its objective, and the stages that evaluate and fine-tune."""
    catalog.add("task", "linear_probe", "ossicle.tasks.evaluation.probes:LinearProbe", config=LinearProbeConfig)
    catalog.add("task", "knn_probe", "ossicle.tasks.evaluation.probes:KnnProbe", config=KnnProbeConfig)
    catalog.add("task", "fine_tune", "ossicle.tasks.stages.fine_tune:evaluate", config=FineTuneConfig)
    catalog.add(
        "objective",
        "classification",
        "ossicle.tasks.objectives.classification:Classification",
        config=ClassificationConfig,
    )
    for stage in (FeaturesStage, EvaluateStage, FineTuneStage, FineTunedEvaluationStage):
        catalog.add_stage(stage)
