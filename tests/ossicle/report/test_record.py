"""The record of a run, complete and with missing pieces."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ossicle.cli import main
from ossicle.core.errors import ArtifactError
from ossicle.core.store import write_card
from ossicle.report import RunRecord
from ossicle.report.training import Training


def test_whole_run(quickstart: Any) -> None:
    record = RunRecord.read(quickstart.write())
    assert (record.name, record.seed, record.seconds) == ("quickstart", 0, 312.4)
    assert [stage.kind for stage in record.stages[:3]] == ["survey", "tokenizer", "pretrain"]
    assert [(one.subject, one.role) for one in record.scores[1 : 2 * 5 * 3 : 6]] == [
        ("untrained", "start"),
        ("log-mel", "log-mel"),
        ("iteration 1", "iteration"),
        ("iteration 2", "iteration"),
        ("untrained teacher", "control"),
    ]
    assert {one.subject for one in record.scores if one.taught} == {"iteration 2", "untrained teacher"}
    assert [(one.subject, one.role, one.used) for one in record.tokens] == [
        ("iteration 1", "iteration", 457),
        ("iteration 2", "iteration", 210),
        ("untrained teacher", "control", 198),
    ]
    assert [stage.name for stage in record.stages if stage.reused] == ["iteration 1/tokenizer"]
    assert record.stages[2].inputs == {"tokenizer": "iteration 1/tokenizer"}
    assert len(record.scores) == 2 * 5 * 3
    assert record.scores[1].view == "bands"
    assert record.scores[1].valid == pytest.approx(0.41)
    assert record.surveys[0].clips == {"train": 960, "valid": 192, "test": 400}
    assert record.scores[1].others == {"UAR": pytest.approx(0.28)}
    assert record.scores[1].folds == {}
    assert record.scores[1].stage in record.stages
    assert len(record.surveys[0].bad_files) == 4
    assert record.surveys[0].counts == {"silent": 2, "unreadable": 1, "damaged but used": 1}
    trained = ["iteration 1/pretrain", *(f"iteration 2/{kind}" for kind in ("tokenizer", "pretrain"))]
    trained += [f"untrained teacher/{kind}" for kind in ("tokenizer", "pretrain")]
    assert [training.name for training in record.trainings] == trained
    assert "corpus: gm_notes" in record.config
    assert record.problems == []


def test_names_come_from_this_run_and_not_from_the_artifact(empty_run: Any) -> None:
    empty_run.pretrain("iteration 1")
    empty_run.pretrain("place only", control=True)
    empty_run.evaluate("probe", "place only", 0.5)
    empty_run.tokens("iteration 2")
    theirs = {"task": "other probe", "corpus": "other", "subject": "iteration 7"}
    empty_run.run["stages"][-1]["tags"] = {"corpus": "mine", "subject": "place only"}
    for path in empty_run.store.glob("*/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), **theirs, "tags": theirs}))
    record = RunRecord.read(empty_run.write())
    (score, *_) = record.scores
    assert (score.task, score.corpus, score.subject, score.role) == ("probe", "gm_notes", "place only", "control")
    (tokens,) = record.tokens
    assert (tokens.corpus, tokens.subject, tokens.role) == ("mine", "place only", "control")


def test_iterations_are_in_the_order_of_the_schedule_and_controls_last(empty_run: Any) -> None:
    for name, control in (("late", False), ("control", True), ("iteration 10", False), ("iteration 2", False)):
        empty_run.pretrain(name, control=control)
    for subject in ("iteration 2", "control", "late", "checkpoint", "iteration 10", "log-mel 64"):
        empty_run.evaluate("probe", subject, 0.5)
    scores = RunRecord.read(empty_run.write()).scores
    assert [score.subject for score in scores[::3]] == [
        "checkpoint",
        "log-mel 64",
        "late",
        "iteration 10",
        "iteration 2",
        "control",
    ]


def test_tokens_that_cannot_be_read_are_named(empty_run: Any) -> None:
    artifact = empty_run.stage("tokens/c/iteration 1", "tokens", tags={"corpus": "c", "subject": "iteration 1"})
    record = RunRecord.read(empty_run.write())
    assert record.tokens == []
    assert "tokens.json is missing" in record.problems[0]
    (artifact / "tokens.json").write_text('{"codebook_size": 4}')
    assert "tokens.json is not as expected (KeyError('used'))" in RunRecord.read(empty_run.folder).problems[0]


def test_a_run_records_its_stages_and_its_resulting_encoder(tmp_path: Path) -> None:
    from ossicle.core.stage_runner import StageRecord
    from ossicle.core.store import Artifact, Store
    from ossicle.experiment.run import _run_record
    from ossicle.tasks.evaluation.stage_specs import EvaluateStage
    from ossicle.tasks.stages.specs import PretrainStage

    def record(stage: Any) -> StageRecord:
        folder = tmp_path / stage.tags["subject"]
        folder.mkdir()
        card = {"seconds": 1.0, "warnings": [], "tags": {"subject": "what another experiment calls it"}}
        (folder / "card.json").write_text(json.dumps(card))
        return StageRecord(stage, "key", Artifact(folder), True, 0.0)

    part: Any = None
    stages = [
        PretrainStage(name="own/pretrain", encoder=part, corpus=part, training=part, tags={"subject": "own"}),
        PretrainStage(
            name="place only/pretrain",
            encoder=part,
            corpus=part,
            training=part,
            tags={"subject": "place only", "control": True},
        ),
        EvaluateStage(name="probe", task=part, corpus=part, tags={"subject": "scores"}),
    ]
    catalog = SimpleNamespace(parts=list, failures=[])
    checked: Any = SimpleNamespace(
        experiment=SimpleNamespace(name="e", seed=0), plugins=SimpleNamespace(catalog=catalog)
    )
    records = [record(stage) for stage in stages]
    run = _run_record(checked, records, tmp_path, Store(tmp_path / ".store"), datetime.now(UTC), 0.0)
    assert run["stages"][1]["tags"] == {"subject": "place only", "control": True}
    assert [stage["flags"] for stage in run["stages"]] == [["makes_encoder"], ["makes_encoder"], ["is_evaluation"]]
    assert run["encoder"] == "own"


def test_last_record_of_a_step_counts_and_a_truncated_line_is_skipped(empty_run: Any) -> None:
    artifact = empty_run.stage("iteration 1/pretrain", "pretrain")
    records = [(10, 5.0), (20, 4.0), (30, 3.5), (20, 4.4), (30, 3.9), (40, 3.0)]
    lines = [json.dumps({"step": step, "loss": loss}) for step, loss in records]
    (artifact / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 50, "lo']))
    curve = RunRecord.read(empty_run.write()).trainings[0].curve("loss")
    assert curve.steps == [10, 20, 30, 40]
    assert curve.values == [5.0, 4.4, 3.9, 3.0]


def test_curves_leave_out_missing_and_non_finite_values(empty_run: Any) -> None:
    artifact = empty_run.stage("iteration 1/pretrain", "pretrain")
    lines = ['{"step": 1, "loss": NaN}', '{"step": 2, "loss": 1.5, "done": true}', '{"step": 3, "note": "x"}']
    (artifact / "metrics.jsonl").write_text("\n".join(lines))
    training = Training.read("t", artifact)
    assert training.names() == ["loss"]
    assert training.curve("loss").steps == [2]
    assert not training.curve("absent")


def test_metrics_of_older_runs_get_their_present_names(empty_run: Any) -> None:
    artifact = empty_run.stage("t", "pretrain")
    (artifact / "metrics.jsonl").write_text(json.dumps({"step": 5, "loss": 2.0, "label_perplexity": 9.0}))
    training = Training.read("t", artifact)
    assert training.names() == ["loss", "token_perplexity"]
    assert training.curve("token_perplexity").values == [9.0]


def test_warnings_of_stages_are_named_and_not_repeated(empty_run: Any) -> None:
    empty_run.run["warnings"] = ["disk is full"]
    empty_run.stage("a", "tokenizer", card={"warnings": ["disk is full", "codes collapsed"]})
    assert RunRecord.read(empty_run.write()).warnings == ["disk is full", "a: codes collapsed"]


def test_no_run(tmp_path: Any) -> None:
    with pytest.raises(ArtifactError, match=r"must be the folder of a run, but holds no `run\.json`"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("{", "must be JSON, but is damaged"), ("[]", "but holds a list")])
def test_damaged_run(tmp_path: Any, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize("missing", ["tags", "flags"])
@pytest.mark.parametrize("command", ["results", "ensemble", "tokens"])
def test_a_run_of_an_older_version_is_refused_in_one_line(
    empty_run: Any, missing: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty_run.pretrain("iteration 1")
    for stage in empty_run.run["stages"]:
        del stage[missing]
    run = str(empty_run.write())
    arguments = {
        "results": [run],
        "ensemble": [run, str(tmp_path)],
        "tokens": [run, "--out", str(tmp_path / "cards.html")],
    }
    assert main([command, *arguments[command]]) == 2
    assert capsys.readouterr().err == (
        f"`{run}/run.json` was written by an older version of Ossicle: run the experiment again with this version, "
        "which reuses finished stages\n"
    )


def test_missing_and_damaged_artifacts_are_named(quickstart: Any) -> None:
    folder = quickstart.write()
    stages = RunRecord.read(folder).stages
    by_name = {stage.name: stage.folder for stage in stages}
    shutil.rmtree(by_name["iteration 1/pretrain"])
    (by_name["gm_notes/survey"] / "survey.json").write_text("{")
    (by_name["linear_probe/gm_notes/untrained"] / "scores.json").write_text('{"scores": [{}]}')
    record = RunRecord.read(folder)
    assert len(record.stages) == len(stages)
    assert "iteration 1/pretrain" not in [training.name for training in record.trainings]
    assert record.surveys == []
    assert any("`iteration 1/pretrain`: " in text and "holds no card.json" in text for text in record.problems)
    assert any("survey.json is damaged" in text for text in record.problems)
    assert any("`linear_probe/gm_notes/untrained`: scores.json is not as expected" in text for text in record.problems)


def test_files_that_do_not_match_the_card_are_named_and_not_shown(quickstart: Any) -> None:
    folder = quickstart.write()
    before = RunRecord.read(folder)
    by_name = {stage.name: stage.folder for stage in before.stages}
    names = {
        "gm_notes/survey": "bad_files.jsonl",
        "iteration 1/pretrain": "metrics.jsonl",
        "linear_probe/gm_notes/untrained": "scores.json",
        "knn_probe/gm_notes/untrained": "predictions.npz",
    }
    for name, file in names.items():
        write_card(by_name[name], json.loads((by_name[name] / "card.json").read_text()))
        (by_name[name] / file).write_bytes((by_name[name] / file).read_bytes()[:-1])
    record = RunRecord.read(folder)
    assert len(record.problems) == len(names)
    for name, file in names.items():
        start = f"stage `{name}`: {by_name[name] / file} is damaged: it has "
        assert [problem.count("\n") for problem in record.problems if problem.startswith(start)] == [0]
    assert record.surveys[0].bad_files == []
    assert "iteration 1/pretrain" not in [training.name for training in record.trainings]
    gone = {(score.task, score.subject) for score in before.scores} - {(one.task, one.subject) for one in record.scores}
    assert gone == {("linear_probe", "untrained")}


def test_scores_of_an_earlier_version_have_no_further_metrics(empty_run: Any) -> None:
    artifact = empty_run.stage("knn_probe/c/untrained", "evaluate")
    entry = {"view": "mean", "metric": "accuracy", "value": 0.5}
    found = {"task": "knn_probe", "corpus": "c", "subject": "untrained", "scores": [entry]}
    (artifact / "scores.json").write_text(json.dumps(found))
    (score,) = RunRecord.read(empty_run.write()).scores
    assert (score.others, score.folds) == ({}, {})


def test_stage_that_cannot_be_read_is_left_out(empty_run: Any) -> None:
    empty_run.run["stages"] = [{"name": "half"}, 7]
    record = RunRecord.read(empty_run.write())
    assert record.stages == []
    assert len(record.problems) == 2


def test_arrays(quickstart: Any) -> None:
    training = RunRecord.read(quickstart.write()).trainings[0]
    usage = training.usage()
    assert usage is not None
    assert usage.counts.shape == (15, 1024)
    assert len(training.pictures(5)) == 2
    picture = training.pictures(1)[0]
    assert picture.spectrogram.shape == (192, 128)
    assert picture.hidden.dtype == np.bool_


def test_arrays_that_cannot_be_read(empty_run: Any) -> None:
    artifact = empty_run.pretrain("iteration 1")
    training = Training.read("t", artifact)
    (artifact / "pictures.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ArtifactError, match=r"`pictures.npz` cannot be read"):
        training.pictures(1)
    np.savez(artifact / "codebook_usage.npz", steps=np.arange(3), counts=np.zeros((2, 4)))
    with pytest.raises(ArtifactError, match=r"`counts` must be \(3, K\), but is \(2, 4\)"):
        training.usage()
    np.savez(artifact / "pictures.npz", spectrogram_0=np.zeros((16, 128)), hidden_0=np.zeros(8, bool))
    with pytest.raises(ArtifactError, match=r"not as expected: .*columns_0"):
        training.pictures(1)
    (artifact / "codebook_usage.npz").unlink()
    assert training.usage() is None
