"""Further schedules: a single iteration, no pre-training, and pre-training from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.errors import ConfigError
from ossicle.core.experiment import Experiment
from ossicle.core.stages import Stage
from ossicle.experiment.check import check
from ossicle.experiment.run import run
from ossicle.plugins.schedules.plain import Scratch

PROJECTION = "{type: random_projection, codebook_size: 16, codebook_dim: 8}"


def stages(tiny: Path, *overrides: str) -> dict[str, Stage]:
    checked = check(tiny, overrides, Corpora(Silent()), prepare=True)
    return {stage.name: stage for stage in checked.stages}


def test_single_is_beats_with_one_iteration(tiny: Path) -> None:
    assert stages(tiny, f"schedule={{type: single, tokenizer: {PROJECTION}}}") == stages(tiny)


def test_single_refuses_what_beats_refuses(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="tokenizer `self_distilled` is trained: set `distill`"):
        stages(tiny, "schedule={type: single, tokenizer: self_distilled}")


def test_an_objective_without_tokens_neither_needs_nor_makes_a_tokenizer(tiny: Path) -> None:
    expected = stages(tiny, "schedule={type: single}", "pretrain.objective={type: reconstruction}")
    assert not {"tokenizer", "tokens"} & {stage.kind for stage in expected.values()}
    assert expected["iteration 1/pretrain"].inputs == {"survey": "tones/survey"}
    # The stages are the same if the experiment has a tokenizer, even if the tokenizer would need training.
    unused = "schedule={type: single, tokenizer: %s, teacher: untrained, distill: {steps: 2, log_every: 1}}"
    for schedule in ((), (unused % "{type: self_distilled, codebook_size: 16}",)):
        assert stages(tiny, *schedule, "pretrain.objective={type: reconstruction}") == expected


def test_an_objective_with_tokens_needs_a_tokenizer(tiny: Path) -> None:
    message = "iteration 1: objective `masked_prediction` learns from tokens, but there is no tokenizer: add"
    with pytest.raises(ConfigError, match=message):
        stages(tiny, "schedule={type: single}")
    with pytest.raises(ConfigError, match="`teacher` needs a tokenizer to teach, but there is none; remove `teacher`"):
        stages(tiny, "schedule={type: single, teacher: untrained}", "pretrain.objective={type: reconstruction}")


def test_one_override_varies_one_setting(tiny: Path) -> None:
    usual = stages(tiny)["iteration 1/pretrain"]
    for override in (
        "encoder.positions=squeezed",
        "pretrain.objective.masking=inverse_block",
        "pretrain.objective.masking={type: time, columns: 2}",
        "pretrain.objective.mask_ratio=0.5",
        "pretrain.objective.predictor.attention=cross",
    ):
        varied = stages(tiny, override)["iteration 1/pretrain"]
        assert varied.settings != usual.settings
        assert varied.inputs == usual.inputs


def test_check_lists_the_stages_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(schedule: Scratch, experiment: Experiment) -> list[Stage]:
        calls.append(schedule)
        return list_stages(schedule, experiment)

    list_stages = Scratch.stages
    monkeypatch.setattr(Scratch, "stages", counted)
    stages(tiny, "schedule=scratch")
    assert len(calls) == 1


def test_scratch_trains_nothing(tiny: Path) -> None:
    found = stages(tiny, "schedule=scratch")
    assert {stage.kind for stage in found.values()} == {"survey", "encoder", "features", "evaluate"}
    assert {stage.tags["subject"] for stage in found.values() if stage.is_evaluation} == {"untrained", "log-mel"}


def test_continuing_needs_a_checkpoint(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="must be a checkpoint for schedule `continue` to start from, but is `beats`"):
        stages(tiny, f"schedule={{type: continue, iterations: [{{tokenizer: {PROJECTION}}}]}}")


@pytest.fixture(scope="module")
def first(tiny_yaml: str, tmp_path_factory: pytest.TempPathFactory, slow: None) -> Path:
    """A run that later ones start from."""
    experiment = tmp_path_factory.mktemp("first") / "tiny.yaml"
    experiment.write_text(tiny_yaml)
    overrides = ["pretrain.steps=2", "pretrain.warmup_steps=0", "evaluate=[]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ossicle.experiment.run.write_report", lambda *_: None)
        return run(experiment, overrides=overrides, out=experiment.parent / "runs")


def test_pretraining_continues_from_a_run(tiny: Path, first: Path) -> None:
    distilled = "{tokenizer: {type: self_distilled, codebook_size: 16, codebook_dim: 4}}"
    overrides = (
        f"encoder={{checkpoint: {first}}}",
        f"front_end={{checkpoint: {first}}}",
        f"schedule={{type: continue, iterations: [{distilled}], "
        "distill: {steps: 2, log_every: 1, checkpoint_every: 2, batch_seconds: 4}}",
    )
    found = stages(tiny, *overrides)
    assert found["iteration 1/tokenizer"].inputs["teacher"] == "checkpoint"
    assert {stage.tags["subject"] for stage in found.values() if stage.is_evaluation} == {
        "checkpoint",
        "iteration 1",
        "log-mel",
    }


def test_a_checkpoint_can_be_a_teacher(tiny: Path, first: Path) -> None:
    taught = f"{{tokenizer: {{type: self_distilled, codebook_size: 16}}, teacher: {{checkpoint: {first}}}}}"
    distill = "schedule.distill={steps: 2, log_every: 1, checkpoint_every: 2, batch_seconds: 4}"
    found = stages(tiny, f"front_end={{checkpoint: {first}}}", distill, f"schedule.iterations=[{taught}]")
    assert found["iteration 1/tokenizer"].inputs["teacher"] == "iteration 1/checkpoint"
    with pytest.raises(ConfigError, match="trained with other settings or statistics of the front end"):
        stages(tiny, distill, f"schedule.iterations=[{taught}]")
    both = taught.replace("checkpoint:", "of: untrained, checkpoint:")
    with pytest.raises(ConfigError, match="either `of: untrained` or a `checkpoint`"):
        stages(tiny, distill, f"schedule.iterations=[{both}]")


def test_errors_of_a_schedule_or_a_task_are_reported_with_their_location(tiny: Path) -> None:
    with tiny.open("a") as file:
        file.write("evaluate: [knn_probe, {type: fine_tune, steps: 9, encoder_options: {drop: 0.1}}]\n")
    with tiny.open() as file:
        lines = [line for line in file if line != "evaluate: [linear_probe, knn_probe]\n"]
    tiny.write_text("".join(lines))
    message = rf"tiny.yaml:{len(lines)}:\d+: `evaluate.1.encoder_options`: encoder `beats`: there is no option `drop`"
    with pytest.raises(ConfigError, match=message):
        stages(tiny)
    with pytest.raises(ConfigError, match=r"tiny.yaml:5:\d+: `encoder`: must be a checkpoint for schedule `continue`"):
        stages(tiny, "schedule={type: continue, iterations: [{tokenizer: position}]}", "evaluate=[]")


def test_single_refuses_a_teacher_that_does_not_exist(tiny: Path, tmp_path: Path) -> None:
    taught = f"{{type: single, tokenizer: {DISTILLED}, {DISTILL}, teacher: {{checkpoint: {tmp_path / 'none.pt'}}}}}"
    with pytest.raises(ConfigError, match=r"none\.pt` does not exist"):
        stages(tiny, f"schedule={taught}")


DISTILLED = "{type: self_distilled, codebook_size: 16}"
DISTILL = "distill: {steps: 2, log_every: 1}"
TAUGHT = f"schedule={{type: beats, {DISTILL}, iterations: [{{tokenizer: {DISTILLED}, teacher: untrained}}]}}"


def test_merging_into_the_name_of_a_teacher_keeps_or_replaces_it(tiny: Path) -> None:
    plain = stages(tiny, TAUGHT)
    assert stages(tiny, TAUGHT, "schedule.iterations.0.teacher={of: untrained}") == plain
    tuned = stages(tiny, TAUGHT, "schedule.iterations.0.teacher.fine_tune.steps=7")["iteration 1/teacher"]
    assert (tuned.inputs["encoder"], tuned.settings["training"].steps) == ("untrained", 7)
    listed = stages(tiny, TAUGHT, "schedule.iterations.0.teacher.fine_tune={steps: 7, splits: [train], lr: 0.03}")
    assert listed["iteration 1/teacher"].settings["training"].lr == 0.03


def test_a_teacher_must_not_learn_the_labels_of_a_cross_validation(tiny: Path, tones: Path, tmp_path: Path) -> None:
    clips = sorted(tones.rglob("*.wav"))
    for name, chosen in (("folds", clips[::2]), ("others", clips[1::2]), ("overlapping", clips[1::3])):
        rows = [f"{clip},{clip.parent.name},{number % 3}" for number, clip in enumerate(chosen)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label,fold", *rows]) + "\n")
    folds, others, overlapping = (
        f"{{type: csv, path: {tmp_path / name}.csv, label_column: label}}"
        for name in ("folds", "others", "overlapping")
    )
    leakage = [f"corpus={folds}", TAUGHT, "schedule.iterations.0.teacher.fine_tune={steps: 7, log_every: 1}"]

    with pytest.raises(ConfigError, match="`iteration 1/teacher` learns labels of all folds of `folds`, on which"):
        stages(tiny, *leakage)
    with pytest.raises(ConfigError, match="learns labels of all folds of `folds`"):
        stages(tiny, *leakage, f"schedule.iterations.0.teacher.corpus={overlapping}")
    assert "iteration 1/teacher" in stages(tiny, *leakage, f"schedule.iterations.0.teacher.corpus={others}")
    assert "iteration 1/teacher" in stages(tiny, *leakage, "evaluate=[]")


def test_a_teacher_must_not_learn_more_labels_than_its_student(tiny: Path) -> None:
    fine_tune = "schedule.iterations.0.teacher.fine_tune={steps: 7, log_every: 1, label_share: %s}"
    few = "evaluate=[{type: fine_tune, steps: 7, log_every: 1, label_share: 0.5}]"
    with pytest.raises(ConfigError, match=r"`iteration 1/teacher` learns 100 % of the labels .*Set `label_share: 0.5`"):
        stages(tiny, TAUGHT, fine_tune % 1.0, few)
    found = stages(tiny, TAUGHT, fine_tune % 0.5, few, "seed=7")
    assert found["iteration 1/teacher"].settings["label_seed"] == 7, "the evaluation draws the labels with its seed"
    assert "iteration 1/teacher" in stages(tiny, TAUGHT, fine_tune % 1.0, "evaluate=[linear_probe]")


def test_a_misspelt_key_of_a_teacher_is_the_only_error(tiny: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        stages(tiny, TAUGHT, "schedule.iterations.0.teacher={of: untrained, fine_tune: {stepz: 1}}")
    (message,) = str(caught.value).splitlines()
    assert "unknown key `stepz`. Did you mean `steps`?" in message
