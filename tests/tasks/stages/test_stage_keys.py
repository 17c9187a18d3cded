"""The keys of Ossicle's stages must not change by accident, because users then compute the artifacts again.

If a key changes on purpose, update it here and list the change in CHANGELOG.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ossicle.audio.stage_specs import SurveyStage
from ossicle.checkpoints.checkpoint_config import EncoderCheckpointConfig
from ossicle.core.catalog import Catalog, Origin
from ossicle.core.choices import PartChoice
from ossicle.core.config import Config
from ossicle.core.experiment import PretrainConfig
from ossicle.core.part_kinds import ossicle_register_part_kinds
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.stages import Stage, stage_key
from ossicle.tasks.evaluation.stage_specs import EvaluateStage, FeaturesStage
from ossicle.tasks.stages.fine_tune_config import FineTuneConfig, FineTuningConfig
from ossicle.tasks.stages.specs import (
    EncoderStage,
    FineTunedEvaluationStage,
    FineTuneStage,
    ImportStage,
    PretrainStage,
    TokenizerStage,
    TokensStage,
)
from ossicle.tasks.stages.tokenizer_training_config import TokenizerTrainingConfig

KINDS = [kind for kind, origin in load_plugins().catalog.stage_kinds.values() if origin.source == "ossicle"]
KEYS = {
    "survey": "49cdab3315575142",
    "encoder": "aed6c9441e4c35ce",
    "import": "9e10049bbf0a1b7d",
    "tokenizer": "9083c77910d2d1ba",
    "pretrain": "1cd12aeb4c8b83a1",
    "tokens": "83d03a1aab3acb4c",
    "features": "ea388dc220e50340",
    "evaluate": "1e1319f4e27aa45a",
    "fine_tune": "6d3b71def4e96eab",
    "evaluate_fine_tuned": "3b8199122ca13ee7",
}


class PartConfig(Config):
    """The configuration of a part."""

    size: int = 1


def choice(kind: str, config: type[Config] = PartConfig, **settings: Any) -> PartChoice:
    """Create the choice of a part that is independent of Ossicle's parts."""
    catalog = Catalog()
    with catalog.added_by(Origin("ears", "1.0")):
        ossicle_register_part_kinds(catalog)
        catalog.add(kind, "mine", "nowhere:Mine", config=config)
    return PartChoice.of(catalog.get(kind, "mine"), settings)


def stages(folder: Path) -> list[Stage]:
    """Create one stage of each kind."""
    common: dict[str, Any] = {"name": "one", "inputs": {"survey": "tones/survey"}, "seed": 7}
    on_corpus: dict[str, Any] = {**common, "corpus": choice("corpus")}
    checkpoint = folder / "checkpoint.pt"
    checkpoint.write_bytes(b"weights")
    encoder = choice("encoder")
    return [
        SurveyStage(**on_corpus, front_end=choice("front_end"), statistics_of=("train",), max_bad_share=0.05),
        EncoderStage(**common, encoder=encoder),
        ImportStage(**common, checkpoint=EncoderCheckpointConfig(path=checkpoint)),
        TokenizerStage(
            **on_corpus,
            tokenizer=choice("tokenizer"),
            splits=("train",),
            batch_seconds=64.0,
            crop_seconds=10.0,
            training=TokenizerTrainingConfig(steps=100),
            encoder=encoder,
        ),
        PretrainStage(**on_corpus, encoder=encoder, training=PretrainConfig(steps=100, objective=choice("objective"))),
        TokensStage(**on_corpus, crop_seconds=10.0),
        FeaturesStage(**on_corpus, crop_seconds=10.0),
        EvaluateStage(**on_corpus, task=choice("task")),
        FineTuneStage(**on_corpus, training=FineTuningConfig()),
        FineTunedEvaluationStage(**on_corpus, task=choice("task", FineTuneConfig)),
    ]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_keys_are_unchanged(kind: type[Stage], tmp_path: Path) -> None:
    (stage,) = (one for one in stages(tmp_path) if type(one) is kind)
    origin = Origin("ossicle", "of this test")
    key = stage_key(stage, {"survey": "abc"}, origin=origin, corpus_fingerprint=lambda corpus: "tones")
    assert key[:16] == KEYS[stage.kind]
