"""Averaged predictions of several runs: the numbers, the table, and runs that cannot be averaged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from forked import Program

from ossicle.cli import main
from ossicle.core.errors import ArtifactError
from ossicle.core.stage_runner import StageRun
from ossicle.core.task import TaskResult
from ossicle.experiment.run import run
from ossicle.inference.ensemble import ENSEMBLE, _shared, ensemble
from ossicle.report.verdict import Question
from ossicle.tasks.evaluation.metrics import figure
from ossicle.tasks.evaluation.results import save_result, score_view
from ossicle.tasks.evaluation.stage_specs import EvaluateStage

CLIPS, CLASSES = 60, 3


def truth_of(*, multi_label: bool) -> npt.NDArray[np.bool_]:
    draw = np.random.default_rng(0)
    if multi_label:
        return draw.random((CLIPS, CLASSES)) < 0.4
    return np.eye(CLASSES, dtype=bool)[draw.integers(CLASSES, size=CLIPS)]


def predicted(seed: int, truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=truth.shape)
    return np.asarray(noise + 1.5 * truth, np.float32)


def evaluated(
    folder: Path,
    views: dict[str, npt.NDArray[np.float32]],
    *,
    truth: npt.NDArray[np.bool_],
    task: str = "linear_probe",
    subject: str = "iteration 1",
    scale: Any = "logits",
    multi_label: bool = False,
    corpus: str = "3f9a",
    rows: npt.NDArray[np.int64] | None = None,
    folds: npt.NDArray[np.int64] | None = None,
) -> Path:
    """Add an evaluation to the run in `folder`. The first view has the best validation score."""
    artifact = folder / f"evaluate-{task}-{subject}"
    artifact.mkdir(parents=True)
    metric = "valid_mAP" if multi_label else "valid_accuracy"
    scores = [
        score_view(
            view, truth, values, multi_label=multi_label, seed=0, chosen={metric: 0.9 - 0.1 * place}, folds=folds
        )
        for place, (view, values) in enumerate(views.items())
    ]
    nothing: Any = None
    tags = {"task": task, "corpus": "c", "subject": subject}
    stage = EvaluateStage(name=f"{task}/c/{subject}", task=nothing, corpus=nothing, tags=tags)
    stage_run = StageRun(stage, {}, artifact, artifact, nothing, nothing, nothing)
    result = TaskResult(scores, np.arange(len(truth)), truth, views, scale, folds)
    save_result(stage_run, result, np.arange(100, 100 + len(truth)) if rows is None else rows, multi_label=multi_label)
    (artifact / "card.json").write_text(json.dumps({"config": {"corpus": {"corpus": corpus}}}))
    path = folder / "run.json"
    record = json.loads(path.read_text()) if path.exists() else {"stages": []}
    entry = {"name": stage.name, "kind": stage.kind, "flags": stage.flags(), "tags": tags, "artifact": artifact.name}
    record["stages"].append(entry)
    path.write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("multi_label", [False, True])
def test_probabilities_are_averaged(multi_label: bool, tmp_path: Path) -> None:
    truth = truth_of(multi_label=multi_label)
    logits = predicted(1, truth)
    shares = np.abs(predicted(2, truth)) / np.abs(predicted(2, truth)).sum(1, keepdims=True)
    one = evaluated(tmp_path / "one", {"mean": logits}, truth=truth, multi_label=multi_label)
    two = evaluated(tmp_path / "two", {"mean": shares}, truth=truth, multi_label=multi_label, scale="probabilities")
    ((question, scores),) = ensemble([one, two]).items()
    assert str(question) == "linear_probe on c"
    assert list(scores) == [str(one), str(two), ENSEMBLE]
    exponents = np.exp(logits.astype(np.float64))
    probabilities = exponents / (1 + exponents) if multi_label else exponents / exponents.sum(1, keepdims=True)
    mean = (probabilities + shares) / 2
    found = scores[ENSEMBLE]
    assert found.value == figure(truth, mean, multi_label=multi_label)
    assert found.low < found.value < found.high
    assert list(found.others) == (["mAUC", "d_prime"] if multi_label else ["UAR"])
    for name, own in ((str(one), logits), (str(two), shares)):
        assert scores[name].value == figure(truth, own, multi_label=multi_label)
        assert scores[name].value != found.value


def test_independent_errors_average_out(tmp_path: Path) -> None:
    truth = truth_of(multi_label=False)
    runs = [evaluated(tmp_path / f"{seed}", {"mean": predicted(seed, truth)}, truth=truth) for seed in range(8)]
    ((_, scores),) = ensemble(runs).items()
    assert scores[ENSEMBLE].value > max(scores[str(folder)].value for folder in runs)


def test_each_run_uses_its_last_encoder_and_the_view_selected_on_validation(tmp_path: Path) -> None:
    truth = truth_of(multi_label=False)
    for name, seed in (("one", 0), ("two", 50)):
        for number, subject in enumerate(("untrained", "iteration 1", "iteration 2")):
            names = ("bands", "mean") if name == "one" else ("mean", "bands")
            views = {view: predicted(seed + 10 * number + place, truth) for place, view in enumerate(names)}
            evaluated(tmp_path / name, views, truth=truth, subject=subject)
    runs = [tmp_path / "one", tmp_path / "two"]

    def selected(**options: str) -> list[tuple[str, str]]:
        ((_, scores),) = ensemble(runs, **options).items()
        return [(score.subject, score.view) for score in scores.values()]

    mean = (ENSEMBLE, "mean of 2")
    assert selected() == [("iteration 2", "bands"), ("iteration 2", "mean"), mean]
    assert selected(view="mean") == [("iteration 2", "mean")] * 2 + [mean]
    assert selected(subject="untrained", task="linear_probe") == [("untrained", "bands"), ("untrained", "mean"), mean]
    for options, message in (
        (
            {"subject": "iteration 3"},
            r"has scores of no subject `iteration 3`; give one with --subject. Did you mean `iteration",
        ),
        ({"view": "max"}, r"has no view `max` of iteration 2; give one with --view. Allowed: bands, mean\."),
    ):
        with pytest.raises(ArtifactError, match=message):
            ensemble(runs, **options)


def test_folds_are_kept(tmp_path: Path) -> None:
    truth = truth_of(multi_label=False)
    folds = np.arange(CLIPS) % 3
    runs = [
        evaluated(tmp_path / f"{seed}", {"m": predicted(seed, truth)}, truth=truth, folds=folds) for seed in range(2)
    ]
    ((_, scores),) = ensemble(runs).items()
    assert list(scores[ENSEMBLE].folds) == ["0", "1", "2"]
    assert scores[ENSEMBLE].value == pytest.approx(np.mean(list(scores[ENSEMBLE].folds.values())))


SHUFFLED = np.random.default_rng(1).permutation(CLIPS) + 100


@pytest.mark.parametrize(
    ("differing", "message"),
    [
        ({"corpus": "other"}, "two uses another version of the corpus than"),
        ({"rows": SHUFFLED}, "two uses other test clips than"),
        ({"truth": truth_of(multi_label=False)[::-1]}, "two has other labels for the test clips than"),
        (
            {"task": "knn_probe"},
            "these runs have no evaluation task in common. Their tasks are:\n.*one: linear_probe on c\n",
        ),
        ({"scale": None}, "predictions cannot be averaged: the task must state `logits` or `probabilities`"),
        ({"subject": "log-mel"}, "has scores of no pre-trained encoder; give one with --subject. Allowed: log-mel"),
    ],
)
def test_runs_that_cannot_be_averaged(differing: dict[str, Any], message: str, tmp_path: Path) -> None:
    truth = truth_of(multi_label=False)
    one = evaluated(tmp_path / "one", {"mean": predicted(1, truth)}, truth=truth)
    two = evaluated(tmp_path / "two", {"mean": predicted(2, truth)}, **({"truth": truth} | differing))
    with pytest.raises(ArtifactError, match=message):
        ensemble([one, two])


def test_two_different_complete_runs_are_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = truth_of(multi_label=False)
    one, two = (evaluated(tmp_path / name, {"mean": predicted(1, truth)}, truth=truth) for name in ("one", "two"))
    for runs in ([one], [one, one], [one, two, one / ".." / "two"]):
        assert main(["ensemble", *map(str, runs)]) == 2
        assert capsys.readouterr().err.startswith("an ensemble needs two or more different runs; name the folder of")
    next(two.glob("*/predictions.npz")).write_bytes(b"PK cut short")
    assert main(["ensemble", str(one), str(two)]) == 2
    assert "two: the predictions of `linear_probe/c/iteration 1` cannot be read (" in capsys.readouterr().err
    assert main(["ensemble", str(one), str(tmp_path)]) == 2
    assert "must be the folder of a run, but holds no `run.json`" in capsys.readouterr().err


@pytest.mark.usefixtures("no_report", "own_plugins")
def test_two_real_runs_in_a_separate_process(tiny: Path, tmp_path: Path, program: Program) -> None:
    for name, probe in (("strong", "{type: linear_probe, strengths: [0.01]}"), ("weak", "linear_probe")):
        run(tiny, overrides=[f"name={name}", "pretrain.steps=2", f"evaluate=[{probe}]"], out=tmp_path / "runs")
    shown = program("ensemble", "runs/strong", "runs/weak", cwd=tmp_path, COLUMNS="120")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("linear_probe on tones: accuracy")
    assert [line.split()[0] for line in lines if "–" in line] == ["runs/strong", "runs/weak", ENSEMBLE]


def test_the_error_about_a_task_lists_the_common_tasks() -> None:
    few = "fine_tune, 10 % of the labels"
    answers = {run: {Question(task, "c", "accuracy"): {} for task in (few, "linear_probe")} for run in ("one", "other")}
    assert [question.task for question in _shared(answers, None)] == [few, "linear_probe"]
    assert [question.task for question in _shared(answers, few)] == [few]
    allowed = re.escape(f"Allowed: '{few}', linear_probe.")
    with pytest.raises(ArtifactError, match=f"have no task called `fine_tune` in common. {allowed}"):
        _shared(answers, "fine_tune")
    with pytest.raises(ArtifactError, match=f"Did you mean `linear_probe`\\? {allowed}"):
        _shared(answers, "linear_prob")
