"""Several processes learn the same as one, end together, and continue exactly. Most tests start real processes."""

from __future__ import annotations

import json
import runpy
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from forked import forking
from safetensors.numpy import load_file
from torch import nn

from ossicle.core.data import PatchBatch
from ossicle.core.interfaces import Objective, ObjectiveOutput
from ossicle.training.objective_extras import shards
from ossicle.training.trainer_state import _deal_out

WORKER = Path(__file__).with_name("rank_worker.py")
PATIENCE = 600.0
STEPS = 6

EXPERIMENT = """\
name: several
corpus: {{type: folder, path: {corpus}, labels: folders}}
front_end: {{type: kaldi_fbank, mel_bins: 32}}
encoder:
  {{type: beats, layers: 2, width: 32, feed_forward: 32, heads: 2, patch_width: 16, conv_position_kernel: 8,
    conv_position_groups: 4, dropout: {dropout}, attention_dropout: 0.0, input_dropout: 0.0, layer_drop: 0.0}}
schedule:
  type: beats
  distill: {{steps: 6, batch_seconds: 8.5, lr: 1.0e-3, log_every: 1, checkpoint_every: 3,
    objective: {{type: distillation, estimator: {{layers: 1, heads: 2, dropout: 0.0, attention_dropout: 0.0}}}}}}
  iterations:
    - tokenizer: {{type: random_projection, codebook_size: 16, codebook_dim: 8}}
pretrain:
  {{steps: 6, batch_seconds: 8.5, lr: 1.0e-3, warmup_steps: 1, log_every: 1, checkpoint_every: 3,
    objective: {{type: masked_prediction, predictor: {{layers: 1, heads: 2, dropout: 0.0, attention_dropout: 0.0}}}}}}
"""
WHOLE_METHOD = (
    "schedule.iterations=[{tokenizer: {type: self_distilled, codebook_size: 16, codebook_dim: 8}, teacher: untrained}]",
    "evaluate=[{type: fine_tune, steps: 4, batch_seconds: 8.5, lr: 1.0e-3, log_every: 1, checkpoint_every: 2, "
    "average_last: 2}]",
)

AVERAGED_TEACHER = (
    "schedule={type: single}",
    "pretrain.objective={type: averaged_teacher, decay: 0.5, final_decay: 0.9, decay_steps: 3, clip_loss: 1.0, "
    "predictor: {layers: 1, heads: 2, attention: cross, dropout: 0.0, attention_dropout: 0.0}}",
)

FAILING = '''
"""A tokenizer that is fitted, which only the first process does."""
import ossicle, torch
from ossicle.core.distributed import sum_over_ranks

class FailingConfig(ossicle.Config):
    """Nothing to set."""

@ossicle.tokenizer("failing")
class Failing(ossicle.Tokenizer):
    """Never fits."""

    def __init__(self, config: FailingConfig) -> None:
        super().__init__(2)

    def fit(self, batches):
        ones = torch.ones(())
        sum_over_ranks(ones)
        raise ossicle.OssicleError(f"one process fits, and sums to {ones}")

    def forward(self, batch):
        raise NotImplementedError
'''


@dataclass
class Processes:
    """Processes that run one experiment together. A fork server saves each of them the imports."""

    experiment: Path
    folder: Path
    ranks: int = 2
    overrides: Sequence[str] = field(default_factory=tuple)

    def run(self, *, ranks: int | None = None, end: str = "", elastic: bool = False) -> list[int | None]:
        """Run the processes and return their exit codes.

        Args:
            end: as in `rank_worker.main`
        """
        context = forking()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for error in self.folder.glob("results/*/error"):
            error.unlink()
        ranks = ranks or self.ranks
        shared = {"ranks": ranks, "port": port, "end": end, "elastic": elastic, "overrides": list(self.overrides)}
        shared |= {"experiment": self.experiment, "out": self.folder}
        processes = [
            context.Process(
                target=runpy.run_path, args=(str(WORKER), {"arguments": {**shared, "rank": rank}}, "rank_worker")
            )
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
        hung = [process for process in processes if process.is_alive()]
        for process in hung:
            process.kill()
        assert not hung
        return [process.exitcode for process in processes]

    def error_of(self, rank: int) -> str:
        path = self.folder / "results" / str(rank) / "error"
        return path.read_text() if path.is_file() else ""

    @property
    def error(self) -> str:
        """The error of the process that reports it for all."""
        errors = [self.error_of(rank) for rank in (0, 1)]
        return "".join(text for text in errors if not text.startswith("StoppedElsewhere"))

    def results(self, rank: int = 0) -> list[dict[str, Any]]:
        """Read the final state of each training of a process."""
        return [
            {**json.loads(path.read_text()), "tensors": load_file(path.with_suffix(".tensors"))}
            for path in sorted((self.folder / "results" / str(rank)).glob("*.json"))
        ]

    def curves(self, name: str) -> dict[str, list[float]]:
        """Read a metric over the steps of each training, by artifact."""
        store = self.folder / "store"
        return {
            str(path.relative_to(store)): [json.loads(line)[name] for line in path.read_text().splitlines()]
            for path in sorted(store.glob("*/metrics.jsonl"))
        }

    @property
    def work(self) -> Path:
        (folder,) = (self.folder / "store" / "work").glob("pretrain-????????????????")
        return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of one second in two classes. Clips of equal length make two half batches equal one whole batch."""
    home = tmp_path_factory.mktemp("several")
    draw = np.random.default_rng(0)
    for split, clips in (("train", 12), ("valid", 2), ("test", 2)):
        for label, hertz in (("low", 200), ("high", 2000)):
            (home / "clips" / split / label).mkdir(parents=True)
            for number in range(clips):
                tone = 0.3 * np.sin(2 * np.pi * hertz * (1 + 0.1 * draw.random()) * np.arange(16000) / 16000)
                wave = (tone + 0.03 * draw.standard_normal(16000)).astype(np.float32)
                soundfile.write(home / "clips" / split / label / f"{number}.wav", wave, 16000)
    (home / "experiment.yaml").write_text(EXPERIMENT.format(corpus=home / "clips", dropout=0.0))
    (home / "dropout.yaml").write_text(EXPERIMENT.format(corpus=home / "clips", dropout=0.1))
    return home


@pytest.fixture(scope="module")
def one_process(home: Path) -> Processes:
    """A run of the whole method in one process."""
    processes = Processes(home / "experiment.yaml", home / "one process", overrides=WHOLE_METHOD)
    assert processes.run(ranks=1) == [0]
    return processes


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_the_same_as_one(home: Path, one_process: Processes, parallel: str) -> None:
    spread = tuple(f"{path}.parallel={parallel}" for path in ("pretrain", "schedule.distill", "evaluate.0"))
    processes = Processes(home / "experiment.yaml", home / parallel, overrides=(*WHOLE_METHOD, *spread))
    assert processes.run() == [0, 0]
    assert processes.error_of(0) == processes.error_of(1) == ""

    for figure in ("loss", "grad_norm", "audio_seconds"):
        expected, found = one_process.curves(figure), processes.curves(figure)
        assert expected.keys() == found.keys()  # the number of processes does not enter any key
        assert len(expected) == 4
        for stage, values in expected.items():
            assert found[stage] == pytest.approx(values, abs=1e-4)
    trainings = one_process.results(0)
    for single, first, second in zip(trainings, processes.results(0), processes.results(1), strict=True):
        assert first["kinds"] == second["kinds"] == single["kinds"]
        assert first["seconds"] == second["seconds"] == single["seconds"]
        for name, tensor in single["tensors"].items():
            assert np.array_equal(first["tensors"][name], second["tensors"][name])
            assert first["tensors"][name] == pytest.approx(tensor, abs=1e-4)
        assert ("sdp_01.pt" in first["files"]) == (parallel == "fsdp")
        assert "rank_01.pt" in first["files"]
    assert any("tokenizer.codebook.codes" in training["tensors"] for training in trainings)


@pytest.mark.slow
def test_an_averaged_teacher_is_the_same_in_all_processes(home: Path) -> None:
    setups = []
    for name, ranks in (("one teacher", 1), ("ddp", 2), ("fsdp", 2)):
        spread = () if ranks == 1 else (f"pretrain.parallel={name}",)
        setups.append(
            Processes(home / "experiment.yaml", home / f"averaged {name}", ranks, (*AVERAGED_TEACHER, *spread))
        )
        assert setups[-1].run() == [0] * ranks
    (single,) = setups[0].results()
    for processes in setups[1:]:
        (first,), (second,) = processes.results(0), processes.results(1)
        for name, tensor in single["tensors"].items():
            assert np.array_equal(first["tensors"][name], second["tensors"][name])
            assert first["tensors"][name] == pytest.approx(tensor, abs=1e-4)
    weight = "encoder.stem.embed.weight"
    distance = np.abs(single["tensors"][f"teacher.{weight}"] - single["tensors"][weight]).max()
    assert distance > 1e-3
    assert int(single["tensors"]["teacher.updates"]) == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_that_were_stopped_and_killed_continue_exactly(home: Path, parallel: str) -> None:
    spread = (f"pretrain.parallel={parallel}",)
    whole = Processes(home / "dropout.yaml", home / f"whole {parallel}", overrides=spread)
    parts = Processes(home / "dropout.yaml", home / f"parts {parallel}", overrides=spread)
    assert whole.run() == [0, 0]

    assert parts.run(end="1:4:SIGTERM") == [0, 0]
    assert sorted(parts.error_of(rank).partition(":")[0] for rank in (0, 1)) == ["Interrupted", "StoppedElsewhere"]
    assert f"stopped after step 5 of {STEPS}" in parts.error
    # If one process is killed, the other one ends as well.
    assert parts.run(end="1:1:SIGKILL") == [1, -9]
    assert (parts.work / "checkpoints" / "step_5").is_dir()
    assert parts.run() == [0, 0]

    for figure in ("loss", "grad_norm", "masked_accuracy"):
        assert parts.curves(figure) == whole.curves(figure)
    for rank in (0, 1):
        (expected,), (found,) = whole.results(rank), parts.results(rank)
        assert found["seconds"] == expected["seconds"]
        for name, tensor in expected["tensors"].items():
            assert np.array_equal(found["tensors"][name], tensor)


@pytest.mark.slow
def test_checkpoints_of_another_number_of_processes_are_refused_or_redistributed(home: Path) -> None:
    whole = Processes(home / "experiment.yaml", home / "inelastic")
    processes = Processes(home / "experiment.yaml", home / "elastic")
    assert whole.run(ranks=1) == processes.run(ranks=1, end="0:2:SIGTERM") == [0]
    assert "stopped after step 3" in processes.error_of(0)

    processes.run()
    assert processes.error == (
        f"OssicleError: {processes.work} contains checkpoints of 1 process, but this run uses 2 processes under ddp. "
        "Continue without torchrun, or delete that folder to start again, or redistribute them with `--elastic`: the "
        "clips then come in a slightly different order"
    )
    sharded = Processes(processes.experiment, processes.folder, overrides=["pretrain.parallel=fsdp"])
    sharded.run(elastic=True)
    assert "`--elastic` cannot help, because under fsdp every process stores a shard of the weights" in sharded.error

    processes.run(elastic=True, end="0:1:SIGTERM")
    assert "stopped after step 5" in processes.error
    processes.run(ranks=1)
    assert processes.error.startswith(
        f"OssicleError: {processes.work} contains checkpoints of 2 processes under ddp, but this run uses 1 process. "
        "Continue with `torchrun --nproc-per-node 2` and `parallel: ddp`, or delete"
    )
    assert processes.run(ranks=1, elastic=True) == [0]

    assert processes.error == ""
    assert processes.results()[0]["seconds"] == whole.results()[0]["seconds"]
    # All clips have the same length, so no clip waits in a bucket and none is lost.
    ((_, expected),) = whole.curves("loss").items()
    ((_, found),) = processes.curves("loss").items()
    assert found == pytest.approx(expected, abs=1e-4)


def test_an_interrupted_redistribution_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trainer").mkdir()
    files = [tmp_path / "trainer" / f"rank_{number:02}.pt" for number in range(2)]
    for file in files:
        torch.save({"_metric_bag": {"total_clips": {"weighted_sum": torch.tensor(3.0)}}}, file)
    before = [file.read_bytes() for file in files]
    save = torch.save

    def killed(state: object, path: Path) -> None:
        if "01" in path.name:
            raise KeyboardInterrupt
        save(state, path)

    monkeypatch.setattr("ossicle.training.trainer_state.torch.save", killed)
    with pytest.raises(KeyboardInterrupt):
        _deal_out(tmp_path, 2, 1, seed=0, device=torch.device("cpu"))
    monkeypatch.undo()
    assert [file.read_bytes() for file in files] == before
    assert _deal_out(tmp_path, 2, 1, seed=0, device=torch.device("cpu")) == 6


@pytest.mark.slow
def test_a_failure_in_the_first_process_ends_all_processes(home: Path) -> None:
    plugin = home / "failing.py"
    plugin.write_text(FAILING)
    overrides = [f"plugins=[{plugin}]", "schedule.iterations=[{tokenizer: failing}]"]
    processes = Processes(home / "experiment.yaml", home / "failing", overrides=overrides)
    processes.run()
    assert processes.error_of(0) == "OssicleError: one process fits, and sums to 1.0"
    assert processes.error_of(1).startswith("StoppedElsewhere: another process ended this run")


def test_processes_agree_on_what_is_damaged(home: Path) -> None:
    processes = Processes(home / "experiment.yaml", home / "damaged")
    assert processes.run() == [0, 0]
    (weights,) = (processes.folder / "store").glob("pretrain-*/encoder.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    assert processes.run() == [0, 0]
    assert processes.error == ""
    assert weights.read_bytes() == whole
    assert [len(processes.results(rank)) for rank in (0, 1)] == [2, 2], "both processes run the stage again"


class Nested(Objective):
    """Layers in lists, one of which contains another list."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(1, 1), nn.Sequential(nn.ModuleList([nn.Linear(1, 1)]))])
        self.lists = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)])])
        self.single = nn.Linear(1, 1)

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        raise NotImplementedError

    def parts(self) -> dict[str, nn.Module]:
        return {}


def test_fsdp_splits_the_outermost_members_of_lists() -> None:
    made = Nested()
    assert shards(made) == [*made.inner, made.lists[0][0]]
