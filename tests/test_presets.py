"""The presets of the paper: each makes an experiment, and every stage has the settings of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ossicle.core.config_files.presets import preset_names
from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.errors import ConfigError, Location
from ossicle.core.experiment import TrainingConfig
from ossicle.core.stages import Stage
from ossicle.experiment.check import check, compose

PRESETS = [name for name in preset_names() if not name.startswith("tasks/")]
TABLE_2 = ["iteration 1", "iteration 2", "iteration 3", "iteration 3+, AS-20K", "iteration 3+, AS-2M"]
TASKS = ["audioset2m", "audioset20k", "esc50", "speech_commands_v1", "speech_commands_v2", "iemocap"]


def experiment(tmp_path: Path, preset: str, *lines: str) -> Path:
    path = tmp_path / "experiment.yaml"
    corpus = "corpus: {type: audioset2m, path: data/audioset}"
    path.write_text("\n".join([f"base: {preset}", "name: tried", corpus, *lines]))
    return path


def stages(tmp_path: Path, preset: str) -> dict[str, Stage]:
    return {stage.name: stage for stage in compose(experiment(tmp_path, preset), []).stages}


def training_of(stage: Stage) -> TrainingConfig:
    found = stage.training_config
    assert found is not None
    return found


def same_training(teacher: Stage, judged: Stage) -> bool:
    """Whether a teacher is fine-tuned with the same settings as an evaluated encoder."""
    expected = training_of(teacher).model_dump()
    return {name: value for name, value in training_of(judged).model_dump().items() if name in expected} == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_an_experiment_without_its_corpora(name: str, tmp_path: Path) -> None:
    assert "iteration 1/pretrain" in stages(tmp_path, name)


@pytest.mark.parametrize(
    ("stage", "batch_seconds", "lr"),
    [
        ("iteration 1/pretrain", 5600, 5e-4),
        ("iteration 2/tokenizer", 1400, 5e-5),
        ("iteration 2/pretrain", 5600, 5e-4),
        ("iteration 3/tokenizer", 1400, 5e-5),
        ("iteration 3/pretrain", 5600, 5e-4),
        ("iteration 3+, AS-20K/tokenizer", 1400, 5e-4),
        ("iteration 3+, AS-2M/tokenizer", 1400, 5e-4),
        ("iteration 3+, AS-2M/pretrain", 5600, 5e-4),
    ],
)
@pytest.mark.parametrize("preset", ["beats/base", "recipes/audioset2m"])
def test_every_training_has_the_settings_of_the_paper(
    preset: str, stage: str, batch_seconds: float, lr: float, tmp_path: Path
) -> None:
    found = stages(tmp_path, preset)
    if preset == "beats/base" and "3+" in stage:
        assert stage not in found
        return
    settings = training_of(found[stage])
    assert (settings.steps, settings.warmup_steps) == (400_000, 32_000)
    assert (settings.batch_seconds, settings.lr) == (batch_seconds, lr)
    assert settings.optimizer is not None
    assert settings.optimizer.name == "adamw"
    assert settings.optimizer.config.model_dump() == {"betas": (0.9, 0.98), "weight_decay": 0.01}
    tokenizer: Any = found[stage.replace("/pretrain", "/tokenizer")].settings["tokenizer"].config
    assert (tokenizer.codebook_size, tokenizer.codebook_dim) == (1024, 256)


def test_the_recipe_has_every_row_of_table_2(tmp_path: Path) -> None:
    found = stages(tmp_path, "recipes/audioset2m")
    for row in TABLE_2:
        assert f"{row}/pretrain" in found
        for task in TASKS:
            assert found[f"fine_tune/{task}/{row}"].inputs["encoder"] == f"{row}/pretrain"
    for row, corpus in zip(TABLE_2[3:], ["audioset20k", "audioset2m"], strict=True):
        teacher = found[f"{row}/teacher"]
        assert teacher.inputs["encoder"] == "iteration 2/pretrain"
        assert teacher.settings["corpus"].display_name == corpus
        assert same_training(teacher, found[f"fine_tune/{corpus}/{row}"])
        objective: Any = found[f"{row}/tokenizer"].settings["training"].objective
        assert objective.config.target == "logits"
        assert found[f"{row}/tokenizer"].inputs["teacher"] == f"{row}/teacher"


def test_the_recipe_reports_every_missing_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: recipes/audioset2m\n")
    with pytest.raises(ConfigError) as caught:
        check(mine, [], Corpora(Silent()), prepare=False)
    messages = [problem.message for problem in caught.value.problems]
    assert len(messages) == len(TASKS)
    assert all("does not exist" in message for message in messages)
    assert messages[0].startswith("AudioSet-2M: the folder `data/audioset` does not exist")
    assert "Download the lists of segments" in messages[0]


DISTIL = "schedule: {distill: {objective: {type: distillation, %s}}}"
TWO_ITERATIONS = "schedule: {iterations: [{tokenizer: random_projection}, {tokenizer: %s}]}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (DISTIL % "estimator: {heads: 5}", "`estimator.heads` must divide `width`, but 5 does not divide 768"),
        (DISTIL % "estimator: {width: 200}", "`heads` must divide `width`, but 3 does not divide 200"),
        (DISTIL % "teacher_layer: 40", "`teacher_layer` must be one of 0 to 12"),
        (DISTIL % "principal_components: 4000", "`principal_components` is 4000, but the teacher's vectors have 768"),
        (DISTIL % "target: logits", "`target: logits` needs a teacher with a classifier"),
        (TWO_ITERATIONS % "{type: kmeans, layer: 40}", "`layer` must be `last` or one of 0 to 12, but is 40"),
        ("pretrain: {objective: {predictor: {width: 200}}}", "`heads` must divide `width`, but 3 does not divide 200"),
        (
            "pretrain: {objective: {predictor: {width: 10, heads: 2}}}",
            "a `width` that is a multiple of 4, but it is 10",
        ),
        ("front_end: {padding: released}", "`padding: released` needs whole padded waveforms"),
    ],
)
def test_mistakes_in_later_stages_are_reported_before_anything_runs(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(experiment(tmp_path, "beats/base", line), [])
    (problem,) = caught.value.problems
    assert isinstance(problem.where, Location)
    assert message in problem.message


def test_an_incompatible_setting_is_reported_with_its_line(tmp_path: Path) -> None:
    path = experiment(tmp_path, "beats/base", TWO_ITERATIONS % "{type: kmeans, layer: 40}")
    with pytest.raises(ConfigError, match=r"experiment\.yaml:4:\d+: `layer` must be"):
        compose(path, [])


def test_a_default_objective_is_checked_against_the_teacher_too(tmp_path: Path) -> None:
    narrow = "encoder: {width: 200, heads: 4, conv_position_groups: 8}"
    predictor = "pretrain: {objective: {predictor: {heads: 4}}}"
    training = "distill: {steps: 5, warmup_steps: 0, objective: null}"
    second = "{tokenizer: self_distilled, teacher: iteration 1}"
    schedule = f"schedule: {{{training}, iterations: [{{tokenizer: random_projection}}, {second}]}}"
    path = experiment(tmp_path, "beats/base", narrow, predictor, schedule)
    with pytest.raises(ConfigError, match=r"experiment\.yaml:6:\d+: its objective `distillation`: `estimator.heads`"):
        compose(path, [])


def test_the_encoder_of_a_tokenizer_may_differ_from_that_of_the_experiment(tmp_path: Path) -> None:
    own = "{type: beats, size: tiny, width: 50, heads: 2, conv_position_groups: 2}"
    tokenizer = f"{{type: self_distilled, encoder: {own}}}"
    assert compose(experiment(tmp_path, "beats/base", TWO_ITERATIONS % tokenizer), []).stages
