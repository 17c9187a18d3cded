"""Settings that do not fit an encoder or a teacher are reported without building anything."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import ValidationError

from ossicle.core.catalog import Catalog
from ossicle.core.stages import Stage
from ossicle.encoders.encoder_config import BeatsConfig
from ossicle.tasks.objectives.objective_config import (
    DistillationConfig,
    EstimatorConfig,
    MaskedPredictionConfig,
    PredictorConfig,
)
from ossicle.tasks.stages.specs import EncoderStage, FineTuneStage, ImportStage, teacher_facts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10, "heads": 3}, "`heads` must divide `width`, but 3 does not divide 10"),
        ({"width": 200}, "`heads` must divide `width`, but 3 does not divide 200.*one for every 64 of the width"),
        ({"width": 10, "heads": 2}, "`positions: absolute` needs a `width` that is a multiple of 4, but it is 10"),
    ],
)
@pytest.mark.parametrize("kind", [EstimatorConfig, PredictorConfig])
def test_an_invalid_stack_with_a_given_width_is_refused(
    kind: type[EstimatorConfig], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        kind(**options)


def test_every_accepted_width_makes_a_stack() -> None:
    for width in range(1, 400):
        for positions in ("absolute", "relative"):
            stated = EstimatorConfig(heads=2, positions=positions)
            if not stated.misfits(width, called="estimator"):
                assert stated.stack(width).heads == 2
            derived = EstimatorConfig(positions=positions)
            if not derived.misfits(width, called="estimator"):
                assert derived.stack(width).width == width
    assert EstimatorConfig().misfits(768, called="estimator") == []
    assert EstimatorConfig().misfits(None, called="estimator") == []


def test_a_predictor_is_checked_with_the_width_of_the_encoder() -> None:
    config = MaskedPredictionConfig(predictor=PredictorConfig(heads=2))
    assert config.check_compatibility({"encoder_width": 768}) == []
    (fault,) = config.check_compatibility({"encoder_width": 30})
    assert fault.startswith("`predictor.positions: absolute` needs a `width` that is a multiple of 4, but it is 30")
    own = MaskedPredictionConfig(predictor=PredictorConfig(width=64))
    assert own.check_compatibility({"encoder_width": 30}) == []


BASE = {"teacher_width": 768, "teacher_layers": 12, "teacher_classes": 0}


@pytest.mark.parametrize(
    ("options", "facts", "message"),
    [
        ({"estimator": EstimatorConfig(heads=5)}, BASE, "`estimator.heads` must divide `width`"),
        ({"teacher_layer": 13}, BASE, "`teacher_layer` must be one of 0 to 12, the teacher's layers, but is 13"),
        ({"principal_components": 769}, BASE, "`principal_components` is 769, but the teacher's vectors have 768"),
        ({"target": "logits"}, BASE, "`target: logits` needs a teacher with a classifier"),
        (
            {"target": "logits", "principal_components": 6},
            BASE | {"teacher_classes": 5},
            "`principal_components` is 6, but the teacher's vectors have 5 numbers",
        ),
    ],
)
def test_settings_that_do_not_fit_the_teacher_are_reported(
    options: dict[str, Any], facts: dict[str, object], message: str
) -> None:
    (fault,) = DistillationConfig(**options).check_compatibility(facts)
    assert fault.startswith(message)
    assert DistillationConfig(**options).check_compatibility({}) == []


def test_settings_that_fit_the_teacher_are_accepted() -> None:
    config = DistillationConfig(teacher_layer=12, principal_components=768)
    assert config.check_compatibility(BASE) == []
    of_logits = DistillationConfig(target="logits", teacher_layer=13)
    assert of_logits.check_compatibility(BASE | {"teacher_classes": 5}) == []


def test_the_facts_of_a_teacher_come_from_the_stage_that_makes_its_weights() -> None:
    # Only the fields that `teacher_facts` reads have values.
    nothing: Any = None
    small: Any = BeatsConfig(size="tiny")
    large: Any = BeatsConfig(size="base")
    start = EncoderStage(name="start", encoder=small, inputs={"survey": "survey"})
    checkpoint = ImportStage(name="checkpoint", checkpoint=large)
    inputs = {"encoder": "start", "survey": "survey"}
    tuned = FineTuneStage(name="tuned", training=nothing, corpus=nothing, inputs=inputs)
    stages: dict[str, Stage] = {stage.name: stage for stage in (start, checkpoint, tuned)}

    def known(teacher: str) -> dict[str, object]:
        inputs = {"encoder": "start", "survey": "survey", "teacher": teacher}
        return dict(teacher_facts(dataclasses.replace(tuned, inputs=inputs), stages, Catalog()))

    assert known("start") == {"teacher_width": 128, "teacher_layers": 4, "teacher_classes": 0}
    assert known("tuned") == {"teacher_width": 128, "teacher_layers": 4}
    assert known("checkpoint") == {"teacher_width": 768, "teacher_layers": 12}
    assert teacher_facts(stages["start"], stages, Catalog()) == {}
