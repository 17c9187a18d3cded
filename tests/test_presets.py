"""The paper's presets: each makes an experiment, with the paper's figures for every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ossicle.checking import check, compose
from ossicle.core.display import Silent
from ossicle.core.errors import ConfigError
from ossicle.core.experiment import TrainingConfig
from ossicle.core.presets import preset_names
from ossicle.core.running import Corpora
from ossicle.core.stages import Stage, training_of

PRESETS = [name for name in preset_names() if not name.startswith("tasks/")]
TABLE_2 = ["iteration 1", "iteration 2", "iteration 3", "iteration 3+, AS-20K", "iteration 3+, AS-2M"]
TASKS = ["audioset2m", "audioset20k", "esc50", "speech_commands_v1", "speech_commands_v2", "iemocap"]


def stages(tmp_path: Path, preset: str) -> dict[str, Stage]:
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(f"base: {preset}\nname: tried\ncorpus: {{type: audioset2m, path: data/audioset}}\n")
    return {stage.name: stage for stage in compose(experiment, []).stages}


def trained(stage: Stage) -> TrainingConfig:
    found = training_of(stage)
    assert found is not None
    return found


def same_training(teacher: Stage, judged: Stage) -> bool:
    """Whether a teacher is fine-tuned as its task is."""
    wanted = trained(teacher).model_dump()
    return {name: value for name, value in trained(judged).model_dump().items() if name in wanted} == wanted


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
def test_every_training_has_the_figures_of_the_paper(
    preset: str, stage: str, batch_seconds: float, lr: float, tmp_path: Path
) -> None:
    found = stages(tmp_path, preset)
    if preset == "beats/base" and "3+" in stage:
        assert stage not in found
        return
    settings = trained(found[stage])
    assert (settings.steps, settings.warmup_steps) == (400_000, 32_000)
    assert (settings.batch_seconds, settings.lr) == (batch_seconds, lr)
    assert (settings.betas, settings.weight_decay) == ((0.9, 0.98), 0.01)
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
        assert teacher.settings["corpus"].label == corpus
        assert same_training(teacher, found[f"fine_tune/{corpus}/{row}"])
        objective: Any = found[f"{row}/tokenizer"].settings["training"].objective
        assert objective.config.target == "logits"
        assert found[f"{row}/tokenizer"].inputs["teacher"] == f"{row}/teacher"


def test_the_recipe_names_every_corpus_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = tmp_path / "mine.yaml"
    experiment.write_text("base: recipes/audioset2m\n")
    with pytest.raises(ConfigError) as caught:
        check(experiment, [], Corpora(Silent()), prepare=False)
    messages = [problem.message for problem in caught.value.problems]
    assert len(messages) == len(TASKS)
    assert all("does not exist" in message for message in messages)
    assert messages[0].startswith("AudioSet-2M: the folder `data/audioset` does not exist")
    assert "Get the lists of segments" in messages[0]
