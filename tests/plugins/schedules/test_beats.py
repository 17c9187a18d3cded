"""The schedule of BEATs: its stages, the teachers, and the errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.errors import ConfigError
from ossicle.core.stages import Stage
from ossicle.experiment.check import check

DISTILL = "schedule.distill={steps: 4, log_every: 2, checkpoint_every: 2}"
FIRST = "{tokenizer: {type: random_projection, codebook_size: 16}}"
SECOND = "{tokenizer: {type: self_distilled, codebook_size: 16}}"


def stages(tiny: Path, *overrides: str) -> dict[str, Stage]:
    checked = check(tiny, overrides, Corpora(Silent()), prepare=True)
    return {stage.name: stage for stage in checked.stages}


def iterations(*each: str) -> str:
    return f"schedule.iterations=[{', '.join(each)}]"


def test_a_teacher_is_the_previous_iteration_unless_another_is_named(tiny: Path) -> None:
    control = SECOND.replace("}}", "}, teacher: untrained, name: control}")
    again = SECOND.replace("}}", "}, teacher: iteration 1}")
    found = stages(tiny, DISTILL, iterations(FIRST, SECOND, control, again))
    assert "teacher" not in found["iteration 1/tokenizer"].inputs
    assert found["iteration 2/tokenizer"].inputs["teacher"] == "iteration 1/pretrain"
    assert found["control/tokenizer"].inputs["teacher"] == "untrained"
    assert found["iteration 4/tokenizer"].inputs["teacher"] == "iteration 1/pretrain"
    assert found["control/pretrain"].inputs["tokenizer"] == "control/tokenizer"


def test_an_encoder_that_was_trained_without_tokens_can_be_a_teacher(tiny: Path) -> None:
    first = "{pretrain: {steps: 4, objective: reconstruction}}"
    found = stages(tiny, DISTILL, iterations(first, SECOND))
    assert "iteration 1/tokenizer" not in found
    assert found["iteration 2/tokenizer"].inputs["teacher"] == "iteration 1/pretrain"
    assert [stage.tags["subject"] for stage in found.values() if stage.kind == "tokens"] == ["iteration 2"]


def test_previous_skips_controls(tiny: Path) -> None:
    control = SECOND.replace("}}", "}, teacher: untrained, control: true}")
    found = stages(tiny, DISTILL, iterations(FIRST, control, SECOND))
    assert found["iteration 3/tokenizer"].inputs["teacher"] == "iteration 1/pretrain"
    assert [name for name, stage in found.items() if stage.tags.get("control")] == ["iteration 2/pretrain"]


def test_a_teacher_can_be_fine_tuned_first(tiny: Path) -> None:
    taught = SECOND.replace(
        "}}", "}, teacher: {of: iteration 1, fine_tune: {steps: 4, checkpoint_every: 2, log_every: 2}}}"
    )
    found = stages(tiny, DISTILL, iterations(FIRST, taught))
    assert found["iteration 2/tokenizer"].inputs["teacher"] == "iteration 2/teacher"
    teacher = found["iteration 2/teacher"]
    assert (teacher.kind, teacher.inputs["encoder"]) == ("fine_tune", "iteration 1/pretrain")
    assert teacher.settings["training"].steps == 4


def test_no_encoder_has_the_seed_of_its_teacher(tiny: Path) -> None:
    found = stages(tiny, DISTILL, iterations(FIRST, SECOND, SECOND))
    pretrainings = [stage for name, stage in found.items() if name.endswith("/pretrain")]
    seeds = {stage.seed for stage in pretrainings}
    assert len(seeds) == 3
    assert found["untrained"].seed not in seeds, "the untrained encoder can be a teacher"


def test_a_control_shares_the_seed_of_the_iteration_it_follows(tiny: Path) -> None:
    control = SECOND.replace("}}", "}, control: true, name: control, teacher: untrained}")
    other = SECOND.replace("}}", "}, name: other, seed: 1}")
    found = stages(tiny, DISTILL, iterations(FIRST, SECOND, control, other))
    for stage in ("pretrain", "tokenizer"):
        assert found[f"control/{stage}"].seed == found[f"iteration 2/{stage}"].seed
        assert found[f"other/{stage}"].seed == found[f"iteration 1/{stage}"].seed


def test_an_iteration_can_have_other_settings_of_training(tiny: Path) -> None:
    longer = FIRST.replace("}}", "}, name: longer, pretrain: {steps: 8, objective: masked_prediction}}")
    found = stages(tiny, iterations(FIRST, longer))
    assert found["longer/pretrain"].settings["training"].steps == 8
    assert found["iteration 1/pretrain"].settings["training"].steps == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([iterations(FIRST, SECOND)], "iteration 2: tokenizer `self_distilled` is trained: set `distill`"),
        (
            [DISTILL, iterations(SECOND)],
            "iteration 1: there is no previous encoder to teach tokenizer `self_distilled`",
        ),
        ([iterations(FIRST.replace("}}", "}, teacher: previous}"))], "does not learn from a teacher; remove `teacher`"),
        (
            [DISTILL, iterations(FIRST, SECOND.replace("}}", "}, teacher: iteration 3}"))],
            "iteration 2: there is no teacher `iteration 3`. Did you mean `iteration 1`?",
        ),
        ([iterations(FIRST.replace("}}", "}, name: untrained}"))], "none of them `untrained` or `previous`"),
    ],
)
def test_an_invalid_iteration_is_reported_with_its_location(tiny: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match="schedule") as caught:
        stages(tiny, *overrides)
    assert message in str(caught.value)
