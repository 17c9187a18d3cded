"""`ossicle plan`: every stage of an experiment, existing artifacts, and the cost of the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from forked import Program

from ossicle.cli import main
from ossicle.core.choices import parts_of
from ossicle.core.errors import ConfigError, OssicleError
from ossicle.core.store import Artifact
from ossicle.experiment.check import compose
from ossicle.experiment.run import run
from ossicle.planning.dry_run import shortened
from ossicle.planning.plan import plan

pytestmark = pytest.mark.usefixtures("own_plugins")

DISTILL = "schedule.distill={steps: 4, batch_seconds: 4, log_every: 2, checkpoint_every: 2, threads: 1}"
RANDOM = "{tokenizer: {type: random_projection, codebook_size: 16, codebook_dim: 8}}"
TAUGHT = "{tokenizer: {type: self_distilled, codebook_size: 16, codebook_dim: 8, kmeans_vectors: 2}}"
TWO = (DISTILL, f"schedule.iterations=[{RANDOM}, {TAUGHT}]")
THREE = (DISTILL, f"schedule.iterations=[{RANDOM}, {TAUGHT}, {TAUGHT}]")


def by_name(shown: Mapping[str, Any]) -> dict[str, Any]:
    return {stage["name"]: stage for stage in shown["stages"]}


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
def test_the_tree_lists_every_stage_and_all_are_done_after_a_run(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], program: Program
) -> None:
    before = program("plan", tiny, *TWO, "--out", "made", cwd=tmp_path, COLUMNS="200")
    assert (before.returncode, before.stderr) == (0, "")
    lines = before.stdout.splitlines()
    names = [stage.stage.name for stage in plan(tiny, overrides=TWO).stages]
    shown = {name: next(line for line in lines if f"─ {name}  " in line) for name in names}
    assert lines[0] == f"tiny  {len(names)} stages, 0 done"
    assert all("  to do  " in line for line in shown.values())
    # An input is below the stage that uses it.
    above, below = (lines.index(shown[f"iteration 2/{part}"]) for part in ("pretrain", "tokenizer"))
    assert above < below
    assert shown["iteration 2/tokenizer"].index("─ ") > shown["iteration 2/pretrain"].index("─ ")
    assert shown["iteration 2/tokenizer"].endswith("from teacher iteration 1/pretrain")
    assert "to do: 3 trainings, " in before.stdout
    assert not (tmp_path / "made").exists()

    run(tiny, overrides=TWO, out=tmp_path / "made")
    assert main(["plan", str(tiny), *TWO, "--out", str(tmp_path / "made"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(stage["done"] for stage in found["stages"])
    assert found["to_do"] == {"trainings": 0, "flops": 0, "seconds": 0, "cost": None}
    for stage in found["stages"]:
        card = Artifact(tmp_path / "made" / ".store" / f"{stage['kind']}-{stage['key'][:16]}").card
        assert stage["spent_seconds"] == card["seconds"]
        if stage["kind"] in ("pretrain", "tokenizer") and stage["training"]:
            kept = sum(stage["training"]["kept_parameters"].values())
            assert kept == card["metrics"]["parameters"]
            assert kept < stage["training"]["parameters"]
    training = by_name(found)["iteration 1/pretrain"]["training"]
    # Clips of 0.925 seconds on average: 5 columns of 2 bands.
    assert (training["patches_per_clip"], training["clips_per_step"], training["steps"]) == (10, 4, 6)
    assert training["patches"] == 10 * 4 * 6
    assert training["flops"] == 6 * training["flops_per_step"]


@pytest.mark.slow
def test_equal_trainings_are_counted_once(tiny: Path) -> None:
    counted: list[str] = []
    found = plan(tiny, overrides=THREE, on_stage=counted.append)
    assert counted == ["iteration 1/pretrain", "iteration 2/tokenizer", "iteration 2/pretrain"]
    costs = {stage.stage.name: stage.training.cost for stage in found.stages if stage.training}
    assert costs["iteration 3/pretrain"] == costs["iteration 2/pretrain"] != costs["iteration 1/pretrain"]


@pytest.mark.usefixtures("forked")
def test_a_calibration_gives_time_and_price(tiny: Path) -> None:
    found = plan(tiny, calibrate=True, price_per_hour=3600.0).plain()
    training = by_name(found)["iteration 1/pretrain"]["training"]
    taken = training["calibration"]
    assert taken["clips"] == training["clips_per_step"] == 4
    assert 0 < taken["seconds"] < 30
    assert 0 < taken["bytes"] < 2**30
    assert training["expected_seconds"] == pytest.approx(6 * taken["seconds"])
    assert found["to_do"]["cost"] == pytest.approx(found["to_do"]["seconds"]) == training["expected_seconds"]
    # Other stages are not measured, so they have no expected time.
    assert "expected_seconds" not in by_name(found)["tones/survey"]


def test_a_price_needs_a_time(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(tiny), "--price-per-hour", "2"]) == 2
    assert "a price needs the time of each training: measure it with `--calibrate`" in capsys.readouterr().err


@pytest.mark.slow
def test_corpora_may_be_missing(tiny: Path, tmp_path: Path) -> None:
    task = f"evaluate=[{{type: fine_tune, corpus: {{type: esc50, path: {tmp_path / 'nowhere'}}}, steps: 5}}]"
    found = plan(tiny, overrides=[task])
    (message,) = found.open
    assert "ESC-50: the folder" in message
    assert "does not exist" in message
    stages = {stage.stage.name: stage for stage in found.stages}
    assert stages["iteration 1/pretrain"].key
    evaluation = stages["fine_tune/esc50/iteration 1"]
    assert (evaluation.key, evaluation.artifact) == (None, None)
    assert evaluation.training is not None
    assert evaluation.training.noise.seconds == 10.0


@pytest.mark.slow
def test_a_corpus_that_is_made_on_first_use_is_not_made(tiny: Path, tmp_path: Path) -> None:
    corpus = f"corpus={{type: synthetic, path: {tmp_path / 'clips'}}}"
    found = plan(tiny, overrides=[corpus])
    assert found.open == ["corpus `clips` is made on first use, so keys, labels and lengths are not known yet"]
    assert all(stage.key is None for stage in found.stages)
    assert not (tmp_path / "clips").exists()


@pytest.mark.slow
def test_an_evaluation_with_folds_trains_once_per_fold(tiny: Path, tones: Path, tmp_path: Path) -> None:
    paths = sorted((tones / "train").glob("*/*.wav"))
    rows = [f"{path},{path.parent.name},{number % 3}" for number, path in enumerate(paths)]
    (tmp_path / "folds.csv").write_text("\n".join(["path,label,fold", *rows]))
    corpus = f"{{type: csv, path: {tmp_path / 'folds.csv'}, label_column: label}}"
    found = plan(tiny, overrides=[f"evaluate=[{{type: fine_tune, corpus: {corpus}, steps: 5}}]"])
    training = next(stage.training for stage in found.stages if stage.stage.name.startswith("fine_tune/"))
    assert training is not None
    assert (training.runs, training.steps) == (3, 15)
    assert training.cost.kept["head"] == 2 * (32 + 1)


STRANGE = """
from dataclasses import dataclass

import ossicle
from ossicle.audio.stage_specs import survey_stage
from ossicle.core.choices import PartChoice
from ossicle.core.experiment import PretrainConfig


@ossicle.stage
@dataclass(frozen=True, kw_only=True)
class Bare(ossicle.Stage):
    kind = "bare"
    action = "nowhere:action"

    encoder: PartChoice
    training: PretrainConfig

    @property
    def training_config(self):
        return self.training


@ossicle.stage
@dataclass(frozen=True, kw_only=True)
class Wrong(Bare):
    kind = "wrong"
    objective_builder = "ossicle.tasks.stages.pretrain:objective_of"


class OddConfig(ossicle.Config):
    pass


@ossicle.schedule("odd")
class Odd(ossicle.Schedule):
    def __init__(self, config: OddConfig) -> None:
        pass

    def stages(self, experiment):
        survey = survey_stage(experiment, experiment.corpus)
        settings = {"training": experiment.pretrain, "encoder": experiment.encoder}
        bare = Bare(name="bare", **settings, inputs={"survey": survey.name})
        wrong = Wrong(name="wrong", **settings, inputs={"survey": survey.name, "tokenizer": survey.name})
        return [survey, bare, wrong]
"""


ALIKE = """evaluate=[knn_probe, {type: knn_probe, corpus: {type: folder, path: %(tones)s}},
  {type: knn_probe, corpus: {type: csv, path: /elsewhere/tones.csv, label_column: label}}]"""


def test_corpora_with_the_same_name_are_distinguished(tiny: Path, tones: Path, tmp_path: Path) -> None:
    names = [stage.name for stage in compose(tiny, [ALIKE % {"tones": tones}]).stages]
    for number in ("", " 2", " 3"):
        expected = {f"tones{number}/survey", f"features/tones{number}/untrained", f"knn_probe/tones{number}/untrained"}
        assert expected <= set(names)
    short = shortened(compose(tiny, [ALIKE % {"tones": tones}]), tmp_path, steps=2, seconds=2.0)
    assert len({corpus.config.path for _, corpus in parts_of(short) if corpus.kind == "corpus"}) == 3


def test_the_name_of_a_folder_may_contain_a_date(tiny: Path) -> None:
    override = "evaluate=[{type: knn_probe, corpus: {type: folder, path: /elsewhere/tones.2024}}]"
    assert "tones.2024/survey" in [stage.name for stage in compose(tiny, [override]).stages]


def test_unknown_trainings_are_reported(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(STRANGE)
    found = plan(tiny, overrides=[f"plugins=[{tmp_path / 'odd.py'}]", "schedule=odd"])
    _, bare, wrong = found.stages
    assert (bare.training, bare.unknown) == (None, "its kind of stage has no `objective_builder`")
    assert wrong.unknown == "`wrong` needs the tokenizer of `tones/survey`, which makes none"


def test_invalid_experiments_are_refused(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key `widht`"):
        plan(tiny, overrides=["encoder.widht=3"])
    with pytest.raises(OssicleError, match="--calibrate"):
        plan(tiny, price_per_hour=1.0)
