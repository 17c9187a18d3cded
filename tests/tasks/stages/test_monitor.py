"""Evaluating an encoder during pre-training: which clips it uses, and that it changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.errors import ConfigError
from ossicle.core.manifest import Manifest
from ossicle.core.store import Artifact
from ossicle.experiment.check import check
from ossicle.experiment.run import run
from ossicle.tasks.stages.monitor_split import monitor_problems, without_test

WATCH = ("pretrain.watch=knn_probe", "pretrain.watch_every=4")


def labelled(truth: npt.NDArray[np.bool_], splits: Sequence[str], *, multi_label: bool = False) -> Manifest:
    clips = len(truth)
    return Manifest(
        Path(),
        np.array([f"{number}.wav" for number in range(clips)]),
        np.ones(clips, dtype=np.int64),
        np.full(clips, 16000, dtype=np.int32),
        np.array(splits),
        [tuple(np.flatnonzero(row).tolist()) for row in truth],
        tuple(f"class {number}" for number in range(truth.shape[1])),
        multi_label=multi_label,
    )


def test_test_clips_are_not_used() -> None:
    splits = ["train"] * 40 + ["valid"] * 5 + ["test"] * 7
    monitored = without_test(labelled(np.eye(2, dtype=np.bool_)[np.arange(52) % 2], splits))
    assert set(monitored.splits[45:]) == {""}
    assert set(monitored.splits[40:45]) == {"test"}
    assert set(monitored.splits[:40]) == {"train", "valid"}


@pytest.mark.parametrize(("clips", "set_aside"), [(1, 0), (2, 1), (3, 1), (20, 4), (101, 20)])
def test_a_fifth_of_each_class_but_never_its_last_clip_is_set_aside(clips: int, set_aside: int) -> None:
    truth = np.repeat(np.eye(50, dtype=np.bool_), clips, axis=0)
    monitored = without_test(labelled(truth, ["train"] * len(truth)))
    assert (truth[monitored.splits == "valid"].sum(0) == set_aside).all()
    assert (truth[monitored.splits == "train"].sum(0) == clips - set_aside).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4).flatmap(lambda classes: arrays(np.bool_, (20, classes))))
def test_with_several_labels_per_clip_every_class_can_still_be_learnt(truth: npt.NDArray[np.bool_]) -> None:
    monitored = without_test(labelled(truth, ["train"] * 20, multi_label=True))
    teaching = truth[monitored.splits == "train"]
    assert np.array_equal(teaching.any(0), truth.any(0))
    assert np.array_equal(teaching.all(0), truth.all(0))
    assert (monitored.splits == "valid").any()


def test_a_clip_without_its_label_is_skipped() -> None:
    truth = np.eye(2, dtype=np.bool_)[np.arange(30) % 2]
    truth[[3, 25]] = False
    clips = labelled(truth, ["train"] * 20 + ["valid"] * 10)
    assert set(without_test(clips).splits[[3, 25]]) == {""}
    assert monitor_problems(clips) == []


def test_a_corpus_that_does_not_suffice_is_reported() -> None:
    truth = np.eye(3, dtype=np.bool_)[np.arange(30) % 3]
    (missing,) = monitor_problems(labelled(truth, ["train"] * 20 + ["test"] * 10))
    assert missing.startswith("needs a corpus with labelled `train` and `valid` clips")
    splits = np.where(truth[:, 2], "valid", np.where(np.arange(30) < 20, "train", "valid"))
    (unlearnable,) = monitor_problems(labelled(truth, splits.tolist()))
    assert unlearnable.startswith("cannot evaluate on this corpus, where the `valid` clips serve as `test` clips")
    assert "no `train` clip carries `class 2`" in unlearnable


def artifact(folder: Path, kind: str) -> Artifact:
    stages = json.loads((folder / "run.json").read_text())["stages"]
    return Artifact((folder / next(stage["artifact"] for stage in stages if stage["kind"] == kind)).resolve())


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
def test_a_monitored_training_gives_the_same_encoder_and_more_metrics(tiny: Path, tmp_path: Path) -> None:
    plain = artifact(run(tiny, overrides=["evaluate=[]"], out=tmp_path / "plain"), "pretrain")
    monitored = artifact(run(tiny, overrides=["evaluate=[]", *WATCH], out=tmp_path / "monitored"), "pretrain")
    assert plain.card["key"] == monitored.card["key"]
    assert (plain.path / "encoder.safetensors").read_bytes() == (monitored.path / "encoder.safetensors").read_bytes()
    records = [json.loads(line) for line in (monitored.path / "metrics.jsonl").read_text().splitlines()]
    shown = {record["step"]: {name for name in record if name.startswith("monitor_")} for record in records}
    assert shown[4] == {"monitor_accuracy_mean", "monitor_accuracy_bands", "monitor_accuracy_bands+std"}
    assert not shown[2]
    assert not shown[6]


def test_an_unsuitable_corpus_is_refused_before_anything_is_written(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        run(tiny, overrides=["evaluate=[]", "corpus.labels=none", *WATCH], out=tmp_path / "runs")
    (problem,) = caught.value.problems
    assert str(problem.where) == "override 'pretrain.watch=knn_probe'"
    assert problem.message.startswith("needs a corpus with labelled `train` and `valid` clips")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("place", ["pretrain", "schedule.iterations.0.pretrain"])
def test_check_refuses_a_corpus_of_a_watched_task(place: str, tiny: Path) -> None:
    before, line = AFTER[f"{place}.watch"]
    corpus = "{type: folder, path: ./elsewhere}"
    task = f"{{type: linear_probe, corpus: {corpus}}}"
    text = tiny.read_text().replace(before, before + line.format(task=task))
    tiny.write_text(text)
    (tiny.parent / "elsewhere").symlink_to(yaml.safe_load(text)["corpus"]["path"])
    with pytest.raises(ConfigError) as caught:
        check(tiny, [], Corpora(Silent()), prepare=False)
    lines = text.partition(corpus)[0].splitlines()
    assert str(caught.value) == (
        f"{tiny}:{len(lines)}:{len(lines[-1]) + 1}: `watch` always uses the corpus that the encoder is trained on: "
        "remove `corpus` here, or add a task with this corpus to `evaluate`, which runs after training"
    )


OWN_STAGES = """
import ossicle
from ossicle.core.task import TaskConfig

class JudgeConfig(TaskConfig):
    def stages(self, asked):
        return []

@ossicle.task("judge")
class Judge(ossicle.Task):
    def __init__(self, config: JudgeConfig) -> None: ...
    def evaluate(self, features, *, seed): ...
"""


AFTER = {
    "pretrain.watch": ("  threads: 1\n", "  watch: {task}\n"),
    "schedule.iterations.0.pretrain.watch": (
        "codebook_dim: 8}\n",
        "      pretrain: {{steps: 6, objective: masked_prediction, watch: {task}}}\n",
    ),
}
"""Maps the path of a setting to the text before it and the line to insert."""


@pytest.mark.usefixtures("own_plugins")
@pytest.mark.parametrize("path", AFTER)
@pytest.mark.parametrize(("name", "task"), [("fine_tune", "{type: fine_tune, steps: 9}"), ("judge", "judge")])
def test_check_refuses_to_watch_with_a_task_that_lists_its_own_stages(
    name: str, task: str, path: str, tiny: Path
) -> None:
    (tiny.parent / "judge.py").write_text(OWN_STAGES)
    before, line = AFTER[path]
    text = tiny.read_text().replace(before, before + line.format(task=task))
    tiny.write_text(f"{text}plugins: [./judge.py]\n")
    with pytest.raises(ConfigError) as caught:
        check(tiny, [], Corpora(Silent()), prepare=False)
    lines = text.partition(task)[0].splitlines()
    place = f"{tiny}:{len(lines)}:{len(lines[-1]) + 1}"
    assert str(caught.value) == (
        f"{place}: `{path}` must be a task that evaluates frozen features, because the encoder is still training, "
        f"but `{name}` lists its own stages. Allowed: knn_probe, linear_probe."
    )


def test_the_clips_that_the_survey_accepts_are_checked_before_the_first_step(
    tiny: Path, tones: Path, tmp_path: Path
) -> None:
    recordings = tmp_path / "tones"
    shutil.copytree(tones, recordings)
    for clip in (recordings / "train" / "low").iterdir():
        wave, rate = soundfile.read(clip)
        wave[100] = np.nan
        soundfile.write(clip, wave, rate, subtype="FLOAT")
    overrides = ["evaluate=[]", f"corpus.path={recordings}", "max_bad_share=0.5", *WATCH]
    with pytest.raises(ConfigError, match="no `train` clip carries `low`"):
        run(tiny, overrides=overrides, out=tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("train.jsonl"))
