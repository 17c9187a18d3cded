"""Kinds of stages of a third-party plugin: planned, run, reported and loaded like those of Ossicle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ossicle
from ossicle.cli import main

pytestmark = pytest.mark.usefixtures("own_plugins")

PLUGIN = '''
"""A schedule that pre-trains for few steps, and scores its encoder by how loud clips are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import ossicle
from ossicle.audio.stage_specs import survey_stage
from ossicle.tasks.evaluation.features import judged_rows
from ossicle.tasks.evaluation.results import save_result
from ossicle.tasks.stages.specs import PretrainStage


@dataclass(frozen=True, kw_only=True)
class ShortPretrainStage(PretrainStage):
    """Pre-trains for a part of the steps."""

    kind = "short_pretrain"
    action = f"{__name__}:pretrain_shortly"

    share: float

    @property
    def training_config(self):
        steps = max(1, int(self.share * self.training.steps))
        return self.training.model_copy(update={"steps": steps, "warmup_steps": 0, "checkpoint_every": 2})


def pretrain_shortly(run: ossicle.StageRun[ShortPretrainStage]) -> None:
    from dataclasses import replace

    from ossicle.tasks.stages.pretrain import pretrain

    pretrain(replace(run, stage=replace(run.stage, training=run.stage.training_config)))


@dataclass(frozen=True, kw_only=True)
class GuessStage(ossicle.CorpusStage):
    """Scores an encoder that always predicts the same class."""

    kind = "guess"
    action = f"{__name__}:guess"
    is_evaluation = True

    answer: int


def guess(run: ossicle.StageRun[GuessStage]) -> None:
    manifest = run.manifest()
    rows = judged_rows(run.inputs["survey"], manifest)
    rows = rows[manifest.splits[rows] == "test"]
    classes = len(manifest.label_names)
    truth = manifest.labels.truth(rows, classes)
    scores = np.tile(np.eye(classes, dtype=np.float32)[run.stage.answer], (len(rows), 1))
    right = float(truth[:, run.stage.answer].mean())
    score = ossicle.Score("answer", "accuracy", right, right, right, len(rows))
    save_result(
        run,
        ossicle.TaskResult([score], np.arange(len(rows)), truth, {"answer": scores}),
        rows,
        multi_label=False,
    )


class GuessingConfig(ossicle.Config):
    """Settings of the guess."""

    answer: int = 0


@ossicle.schedule("guessing")
class Guessing(ossicle.Schedule):
    """Pre-trains for few steps, and guesses."""

    def __init__(self, config: GuessingConfig) -> None:
        self.config = config

    def stages(self, experiment):
        survey = survey_stage(experiment, experiment.corpus)
        needs = {"survey": survey.name}
        tags = {"task": "guess", "corpus": "tones", "subject": "short"}
        short = ShortPretrainStage(
            name="short/pretrain",
            encoder=experiment.encoder,
            corpus=experiment.corpus,
            training=experiment.pretrain,
            share=0.5,
            inputs=needs,
            seed=experiment.seed,
            tags=tags,
        )
        scored = GuessStage(
            name="guess", corpus=experiment.corpus, answer=self.config.answer, inputs={**needs, "encoder": short.name},
            tags=tags,
        )
        return [survey, short, scored]


@ossicle.hookimpl
def ossicle_register(catalog) -> None:
    catalog.add_stage(ShortPretrainStage)
    catalog.add_stage(GuessStage)
'''


@pytest.fixture
def guessing(tiny: Path, tmp_path: Path) -> Path:
    """An experiment with the plugin's schedule, which needs no tokenizer."""
    (tmp_path / "guessing.py").write_text(PLUGIN)
    text = tiny.read_text().replace("type: masked_prediction", "type: reconstruction")
    schedule = text[text.index("schedule:") : text.index("pretrain:")]
    path = tmp_path / "guessing.yaml"
    path.write_text("plugins: [./guessing.py]\n" + text.replace(schedule, "schedule: guessing\n"))
    return path


def stages_of(folder: Path) -> dict[str, Any]:
    return {stage["name"]: stage for stage in json.loads((folder / "run.json").read_text())["stages"]}


@pytest.mark.slow
def test_stages_of_a_plugin_run_and_are_reported(
    guessing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "runs")]
    assert main(["plan", str(guessing), *out, "--json"]) == 0
    planned = {stage["name"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert planned["short/pretrain"]["kind"] == "short_pretrain"
    assert planned["short/pretrain"]["training"]["steps"] == 3

    assert main(["run", str(guessing), *out]) == 0
    folder = tmp_path / "runs" / "tiny"
    stages = stages_of(folder)
    assert [(name, stage["kind"], stage["flags"]) for name, stage in stages.items()] == [
        ("tones/survey", "survey", ["is_survey"]),
        ("short/pretrain", "short_pretrain", ["makes_encoder"]),
        ("guess", "guess", ["is_evaluation"]),
    ]
    assert stages["short/pretrain"]["key"] == planned["short/pretrain"]["key"]
    assert "guess on tones" in capsys.readouterr().out
    card = json.loads((folder / stages["short/pretrain"]["artifact"] / "card.json").read_text())
    assert card["origin"].startswith("guessing.py sha256:")
    assert (card["metrics"]["steps"], card["training"]) == (3, {"steps": 3, "batch_seconds": 4.0})
    assert ossicle.load(folder, plugins=[tmp_path / "guessing.py"]).encoder is not None


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
def test_a_change_of_the_plugin_makes_only_its_stages_again(guessing: Path, tmp_path: Path) -> None:
    def reused() -> dict[str, bool]:
        folder = ossicle.run(guessing, out=tmp_path / "runs")
        return {name: stage["reused"] for name, stage in stages_of(folder).items()}

    reused()
    assert reused() == {"tones/survey": True, "short/pretrain": True, "guess": True}
    (tmp_path / "guessing.py").write_text(f"{PLUGIN}\n# edited\n")
    assert reused() == {"tones/survey": True, "short/pretrain": False, "guess": False}


def test_an_unregistered_kind_of_stage_is_reported_before_anything_runs(
    guessing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "guessing.py"
    plugin.write_text(plugin.read_text().replace("    catalog.add_stage(GuessStage)\n", ""))
    assert main(["check", str(guessing)]) == 2
    assert "no plugin offers `GuessStage`, the kind of stage `guess`" in capsys.readouterr().err


def test_two_plugins_cannot_offer_the_same_id(guessing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = guessing.parent / "guessing.py"
    plugin.write_text(plugin.read_text().replace('kind = "guess"', 'kind = "survey"'))
    assert main(["check", str(guessing)]) == 2
    assert "stage `survey` is offered by ossicle" in capsys.readouterr().err
