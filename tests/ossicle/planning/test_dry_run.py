"""A dry run: every training for two steps on synthetic clips, each in a separate process, and no files remain."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from ossicle.cli import main
from ossicle.core.choices import parts_of
from ossicle.core.config_files.experiment_loader import resolved_yaml
from ossicle.experiment.check import CheckedExperiment, compose
from ossicle.planning.dry_run import shortened
from ossicle.planning.subprocess_measure import dry_run_stage

pytestmark = pytest.mark.usefixtures("own_plugins")

DISTILL = "schedule.distill={steps: 400, warmup_steps: 50, batch_seconds: 400, crop_seconds: 2}"
TAUGHT = """schedule.iterations=[
  {tokenizer: {type: random_projection, codebook_size: 16, codebook_dim: 8}},
  {tokenizer: {type: self_distilled, codebook_size: 16, codebook_dim: 8},
   teacher: {of: iteration 1, fine_tune: {steps: 900, crop_seconds: 2, average_last: 3},
             corpus: {type: audioset20k, path: /nowhere}}}]"""
JUDGED = "evaluate=[{type: fine_tune, steps: 700, crop_seconds: 2, corpus: {type: esc50, path: /nowhere}}, knn_probe]"
WHOLE = ("corpus.path=/nowhere", "pretrain.crop_seconds=2", DISTILL, TAUGHT, JUDGED)


CHAIN = (
    *WHOLE[:3],
    "schedule.iterations=[{tokenizer: {type: self_distilled, codebook_size: 16, codebook_dim: 8}}]",
    "schedule.iterations.0.teacher={of: untrained, fine_tune: {steps: 900, crop_seconds: 2}}",
    "schedule.iterations.0.teacher.corpus={type: audioset20k, path: /nowhere}",
)


def shortened_run(checked: CheckedExperiment, folder: Path) -> Any:
    return shortened(checked, folder, steps=3, seconds=2.5)


def test_every_corpus_and_every_training_is_changed(tiny: Path, tmp_path: Path) -> None:
    checked = compose(tiny, WHOLE)
    short = shortened_run(checked, tmp_path / "corpora")
    corpora = {choice.display_name: choice for _, choice in parts_of(short) if choice.kind == "corpus"}
    assert set(corpora) == {"nowhere", "audioset20k", "esc50"}
    assert {choice.name for choice in corpora.values()} == {"synthetic"}
    assert all(choice.config.seconds == 2.5 for choice in corpora.values())
    # Clips of AudioSet have several labels, which is known without the corpus.
    assert [label for label, choice in corpora.items() if choice.config.multi_label] == ["audioset20k"]

    # The written experiment has stages with the same names.
    again = tmp_path / "short.yaml"
    again.write_text(resolved_yaml(short))
    stages = compose(again, []).stages
    assert [stage.name for stage in stages] == [stage.name.replace("/tones/", "/nowhere/") for stage in checked.stages]
    trainings = {stage.name: training for stage in stages if (training := stage.training_config)}
    assert set(trainings) >= {"iteration 2/teacher", "iteration 2/tokenizer", "fine_tune/esc50/iteration 2"}
    for training in trainings.values():
        assert (training.steps, training.crop_seconds, training.log_every) == (3, 2.0, 1)
        assert int(training.batch_seconds / 2.03) == 2
    tokenizer: Any = next(stage for stage in stages if stage.name == "iteration 2/tokenizer").settings["tokenizer"]
    assert tokenizer.config.kmeans_vectors == 1
    assert short.encoder == checked.experiment.encoder


@pytest.mark.usefixtures("forked")
def test_all_trainings_run_and_no_files_remain(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch, work = tmp_path / "scratch", tmp_path / "work"
    scratch.mkdir()
    work.mkdir()
    for name, value in {"TMPDIR": scratch, "OSSICLE_CACHE": work / "cache", "COLUMNS": 200}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(work)
    assert main(["run", str(tiny), "--dry-run", *CHAIN]) == 0
    shown, errors = capsys.readouterr()
    assert errors == ""
    rows = [line.split("│") for line in shown.splitlines() if line.startswith("│")]
    assert [row[1].strip() for row in rows] == [
        "iteration 1/teacher",
        "iteration 1/tokenizer",
        "iteration 1/pretrain",
    ]
    for row in rows:
        step, memory, loss = (cell.split()[0] for cell in row[2:5])
        assert float(step) > 0
        assert 0 < float(memory) < 2
        assert 0 < float(loss) < 20
    assert "2 steps of 2 clips of 2\N{NO-BREAK SPACE}s each" in shown
    assert list(scratch.iterdir()) == list(work.iterdir()) == []


@pytest.mark.slow
def test_artifacts_of_an_earlier_dry_run_are_made_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ossicle.planning.subprocess_measure.logging.disable", lambda level: None)
    short = tmp_path / "short.yaml"
    short.write_text(resolved_yaml(shortened_run(compose(tiny, ["pretrain.crop_seconds=2"]), tmp_path / "corpora")))
    order = {"experiment": str(short), "store": str(tmp_path / "store"), "stage": "iteration 1/pretrain"}
    assert all(dry_run_stage(order)["step_seconds"] > 0 for _ in range(2))


def test_the_whole_recipe_needs_no_corpora(tmp_path: Path) -> None:
    experiment, again = tmp_path / "mine.yaml", tmp_path / "short.yaml"
    experiment.write_text("base: recipes/audioset2m\n")
    checked = compose(experiment, [])
    again.write_text(resolved_yaml(shortened_run(checked, tmp_path / "corpora")))
    found = compose(again, []).stages
    assert [stage.name for stage in found] == [stage.name for stage in checked.stages]
    assert {training.steps for stage in found if (training := stage.training_config)} == {3}


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_used_if_the_processor_has_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: str
) -> None:
    monkeypatch.setattr("ossicle.planning.dry_run.has_bf16", lambda: has_bf16)
    short = shortened_run(compose(tiny, ["pretrain.precision=bf16"]), tmp_path / "corpora")
    assert short.pretrain.precision == expected


def test_one_step_is_too_few(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tiny), "--dry-run", "--steps", "1"]) == 2
    assert "`--steps` must be at least 2, because the first step only warms up, but is 1" in capsys.readouterr().err


WAITING = """\
import os, sys, time
from ossicle.planning.subprocess_measure import measured

def stay(order):
    print(os.getpid(), flush=True)
    time.sleep(120)

if __name__ == "__main__":
    measured(stay, {"stage": "any"})
"""


@pytest.mark.slow
def test_a_measurement_ends_with_its_parent_process(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        assert child.is_dir()
        parent.kill()
    deadline = time.monotonic() + 30
    while _is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_running(process: Path) -> bool:
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
