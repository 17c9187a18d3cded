"""Fine-tuning: from labelled clips to scores, the selection of weights, and exact resuming after interruptions."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile  # before fairseq2
import torch
from fairseq2.data.data_pipeline import DataPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

import ossicle
from ossicle.core.choices import PartChoice
from ossicle.core.corpora import Corpora
from ossicle.core.data import Grid, PatchBatch, SpectrogramBatch
from ossicle.core.display import Silent
from ossicle.core.errors import ConfigError, CorpusError, Interrupted
from ossicle.core.experiment import TrainingConfig
from ossicle.core.interfaces import FrontEnd, Objective, ObjectiveOutput
from ossicle.core.stage_runner import run_stages
from ossicle.core.store import Artifact, Store
from ossicle.experiment.check import CheckedExperiment, check
from ossicle.tasks.stages.fine_tune import choose_weights
from ossicle.tasks.stages.fine_tune_config import FineTuneConfig, FineTuningConfig
from ossicle.tasks.stages.specs import FineTuneStage
from ossicle.training.engine import CheckpointHistory, train

RATE = 16000

EXPERIMENT = """
name: tuned
plugins: [./stopper.py]
corpus: {{type: csv, path: ./{table}.csv, {column}}}
front_end: {{type: kaldi_fbank, mel_bins: 32}}
encoder:
  {{type: beats, layers: 2, width: 16, feed_forward: 32, heads: 2, patch_width: 8, conv_position_kernel: 4,
   conv_position_groups: 4, patch_bias: true}}
schedule:
  type: beats
  iterations: [{{tokenizer: {{type: random_projection, codebook_size: 16, codebook_dim: 4}}}}]
pretrain:
  {{steps: 1, batch_seconds: 2, log_every: 1, checkpoint_every: 1, threads: 1,
    objective: {{type: masked_prediction, predictor: {{layers: 1, heads: 2}}}}}}
evaluate:
  - {{type: fine_tune, steps: 12, batch_seconds: 6, log_every: 1, checkpoint_every: 3, {options}}}
"""

STOPPER = '''
"""Log every step of fine-tuning, and stop the program after the numbers of steps in `STOPS`."""
import os, pathlib, signal
import ossicle

@ossicle.hookimpl
def ossicle_step_end(stage, step, metrics):
    if stage.startswith("fine_tune"):
        notes = pathlib.Path(os.environ["STEPS"])
        with notes.open("a") as file:
            file.write(f"{step}\\n")
        if str(len(notes.read_text().split())) in os.environ.get("STOPS", "").split():
            signal.raise_signal(signal.SIGINT)
'''

AUGMENTED = "augmentation: {roll: true, mixup: 0.3, time_masks: 1, frequency_masks: 1}"
OBJECTIVE = f"objective: {{type: classification, layer_lr_decay: 0.8, {AUGMENTED}}}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write low and high tones of 0.3 to 0.6 s, in three splits or folds, with one label each or several."""
    folder = tmp_path_factory.mktemp("tuning")
    (folder / "stopper.py").write_text(STOPPER)
    draw = np.random.default_rng(0)
    tables: dict[str, list[dict[str, Any]]] = {"splits": [], "folds": [], "several": []}
    for number in range(32):
        seconds, high = 0.3 + 0.3 * draw.random(), number % 2
        time = np.arange(round(RATE * seconds)) / RATE
        wave = 0.3 * np.sin(2 * np.pi * (3000 if high else 250) * (1 + 0.1 * draw.random()) * time)
        soundfile.write(folder / f"{number:02}.wav", wave + 0.01 * draw.standard_normal(len(time)), RATE)
        clip = {"path": f"{number:02}.wav", "label": "high" if high else "low"}
        split = "train" if number < 16 else "valid" if number < 24 else "test"
        tables["splits"].append(clip | {"split": split})
        tables["folds"].append(clip | {"fold": number // 2 % 3})
        tables["several"].append({"path": clip["path"], "split": split, "labels": "tone;high" if high else "low"})
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_plugins: None) -> Iterator[None]:
    monkeypatch.setenv("STEPS", str(tmp_path / "steps"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def written(home: Path, table: str, *options: str) -> Path:
    column = "labels_column: labels" if table == "several" else "label_column: label"
    path = home / "experiment.yaml"
    path.write_text(EXPERIMENT.format(table=table, column=column, options=", ".join(["threads: 1", *options])))
    return path


def evaluate(path: Path, folder: Path, *subjects: str) -> None:
    """Run the stages of an experiment that evaluate these subjects, or all stages if none is given."""
    checked = check(path, [], Corpora(Silent()), prepare=True)
    needed = [
        stage
        for stage in checked.stages
        if not subjects or stage.kind in ("survey", "encoder") or stage.tags.get("subject") in subjects
    ]
    run_stages(needed, store=Store(folder), plugins=checked.plugins, corpora=Corpora(Silent()))


def found_in(store: Path) -> dict[str, Artifact]:
    """Return the artifacts of fine-tuning by subject."""
    artifacts = [Artifact(folder) for folder in store.glob("evaluate_fine_tuned-*")]
    return {artifact.card["tags"]["subject"]: artifact for artifact in artifacts}


def curves(artifact: Artifact) -> dict[str, list[float]]:
    return {
        str(path.relative_to(artifact.path).parent): [
            json.loads(line)["loss"] for line in path.read_text().splitlines()
        ]
        for path in artifact.path.rglob("metrics.jsonl")
    }


# From an experiment to its scores.


@pytest.mark.slow
def test_every_encoder_learns_separable_classes_and_is_scored(home: Path, tmp_path: Path) -> None:
    evaluate(written(home, "splits", OBJECTIVE, "lr: 0.01", "label_share: 0.5"), tmp_path)
    found = found_in(tmp_path)
    assert found.keys() == {"untrained", "iteration 1"}
    for subject, artifact in found.items():
        result = artifact.read_json("scores.json")
        about = {"task": "fine_tune, 50 % of the labels", "corpus": "splits", "subject": subject}
        assert result.items() >= {**about, "multi_label": False, "scale": "logits"}.items()
        (score,) = result["scores"]
        assert score["view"] == "fine-tuned"
        assert score["metric"] == "accuracy"
        assert score["value"] == 1.0
        assert score["clips"] == 8
        assert score["chosen"] == {
            "rule": "the last checkpoint",
            "weights": "step 12",
            "training_clips": 8,
            "valid_accuracy": 1.0,
        }
        with np.load(artifact.path / "predictions.npz") as predictions:
            assert predictions["scores/fine-tuned"].shape == (8, 2)
            assert predictions["clips"].tolist() == list(range(24, 32))
        (losses,) = curves(artifact).values()
        assert len(losses) == 12
        assert np.mean(losses[-3:]) < losses[0]
        assert artifact.card["metrics"]["steps"] == 12


@pytest.mark.slow
def test_a_cross_validation_with_interruptions_ends_as_an_uninterrupted_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(
        home, "folds", OBJECTIVE, "lr: 0.0006", "select: best", "best_of: 3", "average_last: 2", "balanced: true"
    )
    evaluate(path, tmp_path / "whole", "untrained")

    # Between two checkpoints of the first fold, at a checkpoint, and in the last fold.
    notes = tmp_path / "notes"
    monkeypatch.setenv("STEPS", str(notes))
    for stop in (4, 8, 34):
        monkeypatch.setenv("STOPS", str(stop))
        with pytest.raises(Interrupted, match="a checkpoint is kept"):
            evaluate(path, tmp_path / "stopped", "untrained")
    monkeypatch.delenv("STOPS")
    evaluate(path, tmp_path / "stopped", "untrained")

    assert len(notes.read_text().split()) == 3 * 12  # no step ran twice
    whole, stopped = (found_in(tmp_path / name)["untrained"] for name in ("whole", "stopped"))
    assert curves(whole).keys() == {"fold 0", "fold 1", "fold 2"}
    assert curves(stopped) == curves(whole)
    assert stopped.read_json("scores.json") == whole.read_json("scores.json")
    with np.load(whole.path / "predictions.npz") as one, np.load(stopped.path / "predictions.npz") as two:
        assert all(np.array_equal(one[name], two[name]) for name in one)
    assert whole.card["metrics"]["steps"] == 3 * 12
    (score,) = whole.read_json("scores.json")["scores"]
    assert score["clips"] == 32
    assert score["folds"].keys() == {"0", "1", "2"}
    assert score["chosen"]["rule"] == (
        "the best on the validation clips of the last 3 checkpoints, or the mean of the last 2 checkpoints"
    )


def planned(home: Path, *options: str, table: str = "splits") -> CheckedExperiment:
    return check(written(home, table, *options), [], Corpora(Silent()), prepare=True)


def tuned(home: Path, folder: Path, table: str = "splits", **options: Any) -> Artifact:
    """Fine-tune the untrained encoder and return the artifact."""
    checked = planned(home, table=table)
    survey, untrained = (
        next(stage for stage in checked.stages if stage.kind == kind) for kind in ("survey", "encoder")
    )
    given = {"steps": 12, "lr": 0.01, "batch_seconds": 6.0, "log_every": 1, "checkpoint_every": 3, "threads": 1}
    stage = FineTuneStage(
        name="teacher",
        training=FineTuningConfig(**(given | options)),
        corpus=checked.experiment.corpus,
        inputs={"encoder": untrained.name, "survey": survey.name},
        seed=1,
    )
    stages = [survey, untrained, stage]
    return run_stages(stages, store=Store(folder), plugins=checked.plugins, corpora=Corpora(Silent()))[-1].artifact


@pytest.mark.slow
def test_a_fine_tuned_encoder_classifies_with_one_label_per_clip(home: Path, tmp_path: Path) -> None:
    artifact = tuned(home, tmp_path, encoder_options={"layer_drop": 0.3, "gradient_decay": 0.9}, select="best")
    model = ossicle.load(artifact.path)
    wave, rate = soundfile.read(home / "31.wav", dtype="float32")
    found = model.classify(wave, sample_rate=rate)
    assert found.labels == ("high", "low")
    assert found.probabilities.sum().item() == pytest.approx(1.0)
    assert found.probabilities[0, 0] > 0.5
    assert model.embed(wave, sample_rate=rate).clip.shape == (1, 16)
    card = artifact.card
    kept = card["parts"]["encoder"]["config"]
    assert (kept["layer_drop"], kept["gradient_decay"]) == (0.3, 0.9)
    assert card["metrics"]["valid_accuracy"] == 1.0
    assert card["metrics"]["training_clips"] == 16


@pytest.mark.slow
def test_a_fine_tuned_encoder_classifies_with_several_labels_per_clip(home: Path, tmp_path: Path) -> None:
    model = ossicle.load(tuned(home, tmp_path, "several", steps=20).path)
    wave, rate = soundfile.read(home / "31.wav", dtype="float32")
    found = model.classify(wave, sample_rate=rate)
    assert found.labels == ("high", "low", "tone")
    assert found.probabilities[0, [0, 2]].min() > 0.5 > found.probabilities[0, 1]


def test_all_folds_are_for_training_without_an_evaluation(home: Path, tmp_path: Path) -> None:
    metrics = tuned(home, tmp_path, "folds", steps=3).card["metrics"]
    assert metrics["training_clips"] == 32
    assert "valid_accuracy" not in metrics
    with pytest.raises(CorpusError, match="`select: best` chooses on `valid` clips, and this corpus has none besides"):
        tuned(home, tmp_path, "folds", steps=3, select="best")


def test_a_frozen_encoder_does_not_change(home: Path, tmp_path: Path) -> None:
    classification = {"type": "classification", "freeze_encoder": True}
    catalog = planned(home).plugins.catalog
    choice = PartChoice.of(catalog.get("objective", "classification"), {"freeze_encoder": True})
    assert choice.plain().items() >= classification.items()
    artifact = tuned(home, tmp_path, steps=3, objective=choice)
    (before,) = tmp_path.glob("encoder-*")
    assert (artifact.path / "encoder.safetensors").read_bytes() == (before / "encoder.safetensors").read_bytes()


def test_an_unknown_encoder_option_is_refused_before_training(home: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"encoder `beats`: there is no option `layerdrop`. Did you mean `layer_drop`"
    ):
        planned(home, "encoder_options: {layerdrop: 0.1}")
    with pytest.raises(ConfigError, match=r"encoder `beats`: `layer_drop` must be less than 1.0, but is `1.5`"):
        planned(home, "encoder_options: {layer_drop: 1.5}")


def test_average_last_is_at_most_the_number_of_checkpoints() -> None:
    message = (
        r"`average_last` \(5\) must be at most 3, the number of checkpoints that 500 steps write with `checkpoint_every"
    )
    with pytest.raises(ValidationError, match=message):
        FineTuningConfig(steps=500, average_last=5)


def test_settings_that_select_weights_enter_the_key_of_a_stage() -> None:
    assert FineTuneConfig(checkpoint_every=100).identity() != FineTuneConfig(checkpoint_every=50).identity()
    assert FineTuneConfig(log_every=5).identity() == FineTuneConfig(log_every=10).identity()


# Selection of weights.


class Frames(FrontEnd):
    """A front end whose patches are the frames."""

    sample_rate, bands, patch_dim, hop_seconds, min_samples = RATE, 1, 3, 0.01, 1

    def patches(self, batch: SpectrogramBatch) -> PatchBatch:
        valid = torch.ones(batch.frames.shape[:2], dtype=torch.bool)
        return PatchBatch(batch.frames, valid, Grid(batch.frames.shape[1], 1), seconds=1.0)

    transform = set_statistics = fingerprint = column_times = band_edges = None  # type: ignore[assignment]


class Slope(Objective):
    """Learns the sum of three numbers, and counts its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1, bias=False)
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        if self.training:
            self.batches += 1
        error = self.line(batch.patches)[..., 0] - batch.patches.sum(-1)
        return ObjectiveOutput(error.square().sum(), error.numel())

    def parts(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.line}


def weights_after(folder: Path, stops: Sequence[int] = ()) -> dict[tuple[int, ...], tuple[Tensor, int]]:
    """Train for ten steps with interruptions, and return slope and count of each checkpoint and of their mean."""
    found = {}

    def choose(kept: CheckpointHistory) -> None:
        for steps in [*((step,) for step in kept.steps), tuple(kept.steps)]:
            kept.load(steps)
            found[steps] = (objective.line.weight.detach().clone(), int(objective.batches))

    def batch(number: int) -> SpectrogramBatch:
        frames = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(number))
        return SpectrogramBatch(frames, torch.tensor([4, 4]), torch.tensor([640, 640]))

    for stop in [*stops, None]:
        torch.manual_seed(0)
        objective = Slope()
        with pytest.raises(Interrupted) if stop else nullcontext():
            train(
                objective,
                Frames(),
                lambda first: DataPipeline.count(first).map(batch).and_return(),
                TrainingConfig(steps=10, lr=0.1, log_every=1, checkpoint_every=3),
                folder=folder,
                seed=0,
                device=torch.device("cpu"),
                display=Silent(),
                on_publish=lambda step, _, stop=stop: signal.raise_signal(signal.SIGTERM) if step == stop else None,
                keep_checkpoints=3,
                choose_weights=choose,
            )
    return found


def test_the_mean_of_checkpoints_is_the_mean_of_their_weights(tmp_path: Path) -> None:
    found = weights_after(tmp_path)
    assert found.keys() == {(6,), (9,), (10,), (6, 9, 10)}
    mean, batches = found[6, 9, 10]
    assert torch.allclose(mean, sum(found[step,][0] for step in (6, 9, 10)) / 3, atol=1e-7)
    assert not torch.equal(found[6,][0], found[9,][0])
    # Integers are not averaged.
    assert batches == 10


def test_checkpoints_of_interruptions_do_not_replace_regular_ones(tmp_path: Path) -> None:
    whole, stopped = weights_after(tmp_path / "whole"), weights_after(tmp_path / "stopped", stops=(3, 6, 9))
    assert stopped.keys() == whole.keys()
    assert all(torch.equal(stopped[steps][0], whole[steps][0]) for steps in whole)


class Recorded:
    """Checkpoints whose validation scores are known."""

    def __init__(self, scores: Mapping[tuple[int, ...], float]) -> None:
        self.scores = scores
        self.loaded: tuple[int, ...] = ()

    def kept(self, steps: Sequence[int]) -> CheckpointHistory:
        def load(chosen: Sequence[int]) -> None:
            self.loaded = tuple(chosen)

        return CheckpointHistory(steps, load)

    def score(self) -> float:
        return self.scores[self.loaded]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=5, max_size=5), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_the_best_weights_on_the_validation_clips_are_loaded(
    values: list[int], best_of: int, mean_value: int, averaged: int
) -> None:
    steps = [200, 400, 600, 800, 1000]
    mean = tuple(steps[-averaged:])
    scores = {(step,): float(value) for step, value in zip(steps, values, strict=True)}
    if averaged > 1:
        scores[mean] = float(mean_value)
    config = FineTuningConfig(select="best", best_of=best_of, average_last=averaged)
    recorded = Recorded(scores)
    name, value = choose_weights(recorded.kept(steps[-config.kept_checkpoints :]), config, recorded.score)

    competing = {candidate for candidate in scores if candidate[0] in steps[-best_of:]} | {mean}
    assert value == max(scores[candidate] for candidate in competing) == scores[recorded.loaded]
    best = [candidate for candidate in competing if scores[candidate] == value]
    assert recorded.loaded == (mean if mean in best else max(best))
    assert all(str(step) in name for step in recorded.loaded)


@pytest.mark.parametrize(("averaged", "loaded", "name"), [(1, (9,), "step 9"), (2, (6, 9), "mean of steps 6, 9")])
def test_the_last_weights_need_no_score(averaged: int, loaded: tuple[int, ...], name: str) -> None:
    recorded = Recorded({(3,): 1.0, (6,): 1.0})
    config = FineTuningConfig(steps=9, log_every=1, checkpoint_every=3, average_last=averaged)
    assert choose_weights(recorded.kept([3, 6, 9]), config, lambda: None) == (name, None)
    assert recorded.loaded == loaded
