"""Training stops on a signal, and continues exactly after signals and kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile  # before fairseq2
import torch
from torch import Tensor, nn

from ossicle.cli import main
from ossicle.core.data import Grid, PatchBatch, SpectrogramBatch
from ossicle.core.display import Silent
from ossicle.core.errors import Interrupted, OssicleError, PluginError
from ossicle.core.experiment import TrainingConfig
from ossicle.core.interfaces import FrontEnd, Objective, ObjectiveOutput
from ossicle.training.engine import request_stop, train

STEPS = 24
TIMINGS = {"time", "audio_seconds_per_second", "cpu_seconds", "compute_time", "data_time", "lapse_time", "total_time"}
TIMINGS |= {"wall_time"}

EXPERIMENT = f"""
name: small
plugins: [./stopper.py]
corpus: {{type: folder, path: ./recordings}}
front_end: kaldi_fbank
encoder: {{type: beats, size: tiny, layers: 1, width: 32, heads: 2, feed_forward: 64}}
schedule:
  type: beats
  iterations: [{{tokenizer: {{type: random_projection, codebook_size: 16, codebook_dim: 8}}}}]
pretrain:
  {{steps: {STEPS}, batch_seconds: 4, crop_seconds: 1.0, lr: 1.0e-3, warmup_steps: 2, log_every: 1, checkpoint_every: 5,
    ema_decay: 0.9, optimizer: muon, lr_schedule: cosine,
    objective: {{type: masked_prediction, predictor: {{layers: 1}}}}}}
"""

STOPPER = '''
"""Send this program a signal after the step in `STOP`, or just before the artifact is committed."""
import os, signal
import ossicle
from ossicle.core.store import Store

place, _, name = os.environ.get("STOP", "").partition(":")

@ossicle.hookimpl
def ossicle_step_end(stage, step, metrics):
    if place == str(step):
        signal.raise_signal(getattr(signal, name))

if place == "commit":
    def commit(self, draft, kind, key, card):
        if kind == "pretrain":
            signal.raise_signal(getattr(signal, name))
        return original(self, draft, kind, key, card)

    original, Store.commit = Store.commit, commit
'''


@dataclass
class Program:
    """`ossicle run` of one experiment into one folder."""

    folder: Path

    def run_here(self) -> None:
        """Run the experiment in this process."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            assert main(["run", str(self.folder.parent / "experiment.yaml"), "--out", str(self.folder / "runs")]) == 0
        finally:
            torch.set_num_threads(threads)

    @property
    def work(self) -> Path:
        (folder,) = self.folder.glob("runs/.store/work/pretrain-????????????????")
        return folder

    @property
    def artifact(self) -> Path:
        (folder,) = self.folder.glob("runs/.store/pretrain-*")
        return folder

    def curves(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.artifact / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, Program]:
    """Create two folders for one experiment. Clips of 0.3 to 2 s give several buckets and crops."""
    home = tmp_path_factory.mktemp("engine")
    rng = np.random.default_rng(0)
    (home / "recordings").mkdir()
    for number, seconds in enumerate(np.linspace(0.3, 2.0, 24)):
        time = np.arange(round(16000 * seconds)) / 16000
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 3000) * time) + 0.05 * rng.normal(size=len(time))
        soundfile.write(home / "recordings" / f"{number:02}.wav", tone, 16000)
    (home / "experiment.yaml").write_text(EXPERIMENT)
    (home / "stopper.py").write_text(STOPPER)
    for name in ("whole", "stopped"):
        (home / name).mkdir()
    return Program(home / "whole"), Program(home / "stopped")


@pytest.mark.usefixtures("no_report")
def test_a_run_with_kills_and_signals_ends_as_an_uninterrupted_one(
    programs: tuple[Program, Program], program: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    whole, stopped = programs
    whole.run_here()

    def run(stop: str) -> subprocess.CompletedProcess[str]:
        return program("run", "../experiment.yaml", cwd=stopped.folder, STOP=stop)

    assert run("12:SIGKILL").returncode == -signal.SIGKILL
    # A program can be killed while it writes a line.
    for log in (stopped.work / "metrics" / "train.jsonl", stopped.work / "histograms.jsonl"):
        with log.open("a") as file:
            file.write('{"Step": 13, "lo')

    for step, name in ((14, "SIGTERM"), (18, "SIGINT")):
        interrupted = run(f"{step}:{name}")
        assert interrupted.returncode == 130
        assert f"stopped after step {step + 1} of {STEPS}; a checkpoint is kept. To continue, run" in interrupted.stderr
        assert (stopped.work / "checkpoints" / f"step_{step + 1}").is_dir()
        assert "Traceback" not in interrupted.stderr

    assert run("commit:SIGKILL").returncode == -signal.SIGKILL
    assert (stopped.work / "checkpoints" / f"step_{STEPS}").is_dir()
    stopped.run_here()

    expected, found = whole.curves(), stopped.curves()
    assert [line["step"] for line in found] == list(range(1, STEPS + 1))
    assert found == expected
    assert len({line["audio_seconds"] for line in found}) > 5  # buckets of several lengths were in use
    weights = [(program.artifact / "encoder.safetensors").read_bytes() for program in programs]
    assert weights[0] == weights[1]
    with np.load(whole.artifact / "codebook_usage.npz") as one, np.load(stopped.artifact / "codebook_usage.npz") as two:
        assert all(np.array_equal(one[name], two[name]) for name in one)
    assert list((stopped.artifact / "tensorboard").rglob("events*"))


# The engine with a toy objective.


class Frames(FrontEnd):
    """A front end whose patches are the frames."""

    sample_rate, bands, patch_dim, hop_seconds, min_samples = 16000, 1, 4, 0.01, 1

    @property
    def transform(self) -> Any:
        raise NotImplementedError

    def patches(self, batch: SpectrogramBatch) -> PatchBatch:
        valid = torch.ones(batch.frames.shape[:2], dtype=torch.bool)
        return PatchBatch(batch.frames, valid, Grid(batch.frames.shape[1], 1), seconds=float(batch.samples.sum()))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return "frames"

    def column_times(self, columns: int) -> Tensor:
        raise NotImplementedError

    def band_edges(self) -> Tensor:
        raise NotImplementedError


class Follow(Objective):
    """Learns to remove noise from its input. The noise comes from torch's generator."""

    metric_names = ("error",)

    def __init__(self, metric_names: tuple[str, ...] = ("error",)) -> None:
        super().__init__()
        self.metric_names = metric_names
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)
        self.dtypes: set[torch.dtype] = set()

    @property
    def histogram_sizes(self) -> Mapping[str, int]:
        return {"largest": 4}

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        found = self.layer(batch.patches + 0.1 * torch.randn_like(batch.patches))
        self.dtypes.add(found.dtype)
        error = (found.float() - batch.patches).square().mean(-1)
        count = error.numel()
        seen = torch.bincount(batch.patches.argmax(-1).flatten(), minlength=4)
        return ObjectiveOutput(error.sum(), count, {"error": (error.sum(), torch.tensor(count))}, {"largest": seen})

    def parts(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.layer}

    def summarise(self, histograms: Mapping[str, Tensor]) -> Mapping[str, float]:
        return {"all_seen": float(histograms["largest"].sum())}

    def warnings(self, metrics: Mapping[str, float], progress: float) -> list[str]:
        return [f"late: progress {progress:.2f}"] if progress > 0.5 else []


class Warned(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def warn(self, text: str) -> None:
        self.messages.append(text)


def batches() -> Any:
    from fairseq2.data.data_pipeline import read_sequence

    def batch(number: int) -> SpectrogramBatch:
        generator = torch.Generator().manual_seed(number)
        frames = torch.rand(2, 1 + number % 3, 4, generator=generator)
        return SpectrogramBatch(frames, torch.full((2,), frames.shape[1]), torch.full((2,), frames.shape[1]))

    return read_sequence(list(range(7))).shuffle(0, seed=1).repeat().map(batch).and_return()


Steps = dict[int, Mapping[str, Any]]


def train_toy(
    folder: Path, *, steps: int = 12, stop: Any = None, objective: Objective | None = None, **options: Any
) -> tuple[Steps, Any, Warned]:
    published: Steps = {}

    def on_publish(step: int, metrics: Mapping[str, Any]) -> None:
        published[step] = dict(metrics)
        if stop is not None:
            stop(step)

    settings = TrainingConfig(steps=steps, lr=0.05, **{"log_every": 1, "checkpoint_every": 4, **options})
    display = Warned()
    found: Any
    try:
        found = train(
            objective or Follow(),
            Frames(),
            lambda first: batches(),
            settings,
            folder=folder,
            seed=3,
            device=torch.device("cpu"),
            display=display,
            on_publish=on_publish,
        )
    except Interrupted as stopped:
        found = str(stopped)
    return published, found, display


def raising(number: signal.Signals, at: int) -> Any:
    return lambda step: signal.raise_signal(number) if step == at else None


@pytest.fixture
def usual_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.usefixtures("usual_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 6, 11])
def test_a_signal_stops_after_the_step_and_training_continues_exactly(
    tmp_path: Path, number: signal.Signals, at: int
) -> None:
    expected, summary, _ = train_toy(tmp_path / "whole")

    before, message, _ = train_toy(tmp_path / "parts", stop=raising(number, at))
    after, resumed, _ = train_toy(tmp_path / "parts")

    assert message == f"stopped after step {at + 1} of 12; a checkpoint is kept"
    assert sorted(before) == list(range(1, at + 2))
    assert sorted(after) == list(range(at + 2, 13))
    for step, metrics in {**before, **after}.items():
        assert metrics["loss"] == expected[step]["loss"]
        assert torch.equal(metrics["largest"], expected[step]["largest"])
    assert resumed.steps == summary.steps == 12
    seconds = sum(metrics["audio_seconds"] for metrics in expected.values())
    assert resumed.audio_seconds == summary.audio_seconds == pytest.approx(seconds)


@pytest.mark.usefixtures("usual_handlers")
def test_a_finished_training_is_restored_without_steps(tmp_path: Path) -> None:
    first, again = Follow(), Follow()
    _, summary, _ = train_toy(tmp_path, objective=first)

    published, repeated, _ = train_toy(tmp_path, objective=again)

    assert published == {}
    assert torch.equal(first.layer.weight, again.layer.weight)
    assert (repeated.steps, repeated.audio_seconds) == (summary.steps, summary.audio_seconds)
    assert repeated.wall_seconds >= summary.wall_seconds * 0.5
    assert not again.training


def test_metrics_are_weighted_means_and_histograms_are_sums(tmp_path: Path) -> None:
    single, _, _ = train_toy(tmp_path / "single")
    several, _, display = train_toy(tmp_path / "several", log_every=4)

    assert sorted(several) == [4, 8, 12]
    counts = {step: float(metrics["largest"].sum()) for step, metrics in single.items()}
    for end in (4, 8, 12):
        steps = range(end - 3, end + 1)
        expected = sum(single[step]["loss"] * counts[step] for step in steps) / sum(counts[step] for step in steps)
        assert several[end]["loss"] == pytest.approx(expected, rel=1e-5)
        assert several[end]["error"] == pytest.approx(expected, rel=1e-5)
        assert torch.equal(several[end]["largest"], sum(single[step]["largest"] for step in steps))
        assert several[end]["all_seen"] == sum(counts[step] for step in steps)
    assert single[12]["loss"] < single[1]["loss"]
    # A warning of a kind is displayed once, and stored with every step that it applies to.
    assert display.messages == ["step 8: late: progress 0.67"]
    assert several[12]["warnings"] == ["late: progress 1.00"]


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(tmp_path: Path) -> None:
    objective = Follow()
    published, _, _ = train_toy(tmp_path, objective=objective, precision="bf16")
    assert objective.dtypes == {torch.bfloat16}
    assert objective.layer.weight.dtype == torch.float32
    assert published[12]["loss"] < published[1]["loss"]


@pytest.mark.parametrize(
    ("precision", "supported", "warnings"), [("bf16", False, 1), ("bf16", True, 0), ("fp32", False, 0)]
)
def test_bf16_without_hardware_support_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, supported: bool, warnings: int
) -> None:
    monkeypatch.setattr("ossicle.training.engine.has_bf16", lambda: supported)
    _, _, display = train_toy(tmp_path, precision=precision, steps=2)
    assert sum("no bf16 arithmetic" in text for text in display.messages) == warnings


def test_undeclared_metrics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PluginError, match=r"`Follow` declares the metrics \['error', 'speed'\], but returns \['error'\]"
    ):
        train_toy(tmp_path, objective=Follow(("error", "speed")))


class Uncounted(Follow):
    """Returns a histogram that it does not declare."""

    histogram_sizes: Any = {}  # noqa: RUF012  # replaces a property


def test_undeclared_histograms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"`Uncounted` declares the histograms \[\], but returns \['largest'\]"):
        train_toy(tmp_path, objective=Uncounted())


class Diverging(Follow):
    """An objective whose loss is NaN from the fifth batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        self.seen += 1
        output = super().forward(batch)
        return replace(output, loss=output.loss * (float("nan") if self.seen >= 5 else 1.0))


@pytest.mark.parametrize(("steps", "detected_after"), [(12, 8), (6, 6)])
def test_a_diverged_training_raises_an_error_with_a_remedy(tmp_path: Path, steps: int, detected_after: int) -> None:
    message = f"diverged: after step {detected_after} not all weights are finite; lower `lr`"
    with pytest.raises(OssicleError, match=message):
        train_toy(tmp_path, steps=steps, objective=Diverging(), log_every=4)


@pytest.mark.usefixtures("usual_handlers")
def test_training_works_outside_the_main_thread(tmp_path: Path) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(train_toy(tmp_path, steps=4)[1]))
    thread.start()
    thread.join()
    assert found[0].steps == 4


# Each of these fails if a workaround for fairseq2 is no longer needed or must change.


def test_fairseq2_still_ignores_a_request_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossicle.training.engine.request_stop", lambda trainer: trainer.request_stop())
    published, message, _ = train_toy(tmp_path, stop=raising(signal.SIGTERM, 2))
    assert max(published) == 12, (
        "fairseq2 now respects `request_stop`, so `training.engine.request_stop` needs no workaround"
    )
    assert message == "stopped after step 12 of 12; a checkpoint is kept"


def test_the_trainer_still_has_the_private_names_that_the_engine_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def look(trainer: Any) -> None:
        seen.append(dict(vars(trainer)))
        request_stop(trainer)

    monkeypatch.setattr("ossicle.training.engine.request_stop", look)
    train_toy(tmp_path, stop=raising(signal.SIGTERM, 2))
    assert seen[0]["_max_num_steps"] == 12
    assert seen[0]["_step_nr"] == 3
    assert {"_metric_bag", "_base_wall_time", "_wall_watch"} <= seen[0].keys()


@pytest.mark.slow
def test_fairseq2_trainer_still_cannot_be_imported_first() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import soundfile, fairseq2.trainer"], capture_output=True, text=True, timeout=120
    )
    assert "ImportError" in done.stderr, "`training.engine` no longer needs to import fairseq2.recipe first"
