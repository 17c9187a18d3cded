"""Several processes learn what one learns, end together, and go on exactly; each test starts real ones."""

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
"""A tokenizer that is fitted, which is the first process's work alone."""
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
class Crew:
    """Processes that run one experiment into one folder; a fork server spares each the imports."""

    experiment: Path
    folder: Path
    ranks: int = 2
    overrides: Sequence[str] = field(default_factory=tuple)

    def run(self, *, ranks: int | None = None, end: str = "", elastic: bool = False) -> list[int | None]:
        """Start the processes and give their exit codes; `end` is `RANK:STEP:SIGNAL`."""
        context = forking()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for error in self.folder.glob("kept/*/error"):
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

    def said(self, rank: int) -> str:
        path = self.folder / "kept" / str(rank) / "error"
        return path.read_text() if path.is_file() else ""

    @property
    def told(self) -> str:
        """What the one process that speaks for all said."""
        told = [self.said(rank) for rank in (0, 1)]
        return "".join(text for text in told if not text.startswith("StoppedElsewhere"))

    def kept(self, rank: int = 0) -> list[dict[str, Any]]:
        """What a process ended each of its trainings with."""
        return [
            {**json.loads(path.read_text()), "tensors": load_file(path.with_suffix(".tensors"))}
            for path in sorted((self.folder / "kept" / str(rank)).glob("*.json"))
        ]

    def curves(self, name: str) -> dict[str, list[float]]:
        """A figure over the steps of each training, by its artifact."""
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
    """Clips of one second and two classes, so that two halves of a batch are the batch of one process."""
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
def alone(home: Path) -> Crew:
    """The whole method, learnt by one process."""
    crew = Crew(home / "experiment.yaml", home / "alone", overrides=WHOLE_METHOD)
    assert crew.run(ranks=1) == [0]
    return crew


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns(home: Path, alone: Crew, parallel: str) -> None:
    spread = tuple(f"{place}.parallel={parallel}" for place in ("pretrain", "schedule.distill", "evaluate.0"))
    crew = Crew(home / "experiment.yaml", home / parallel, overrides=(*WHOLE_METHOD, *spread))
    assert crew.run() == [0, 0]
    assert crew.said(0) == crew.said(1) == ""

    for figure in ("loss", "grad_norm", "audio_seconds"):
        expected, found = alone.curves(figure), crew.curves(figure)
        assert expected.keys() == found.keys()  # the number of processes enters no key
        assert len(expected) == 4
        for stage, values in expected.items():
            assert found[stage] == pytest.approx(values, abs=1e-4)
    trainings = alone.kept(0)
    for single, first, second in zip(trainings, crew.kept(0), crew.kept(1), strict=True):
        assert first["kinds"] == second["kinds"] == single["kinds"]
        assert first["seconds"] == second["seconds"] == single["seconds"]
        for name, tensor in single["tensors"].items():
            assert np.array_equal(first["tensors"][name], second["tensors"][name])
            assert first["tensors"][name] == pytest.approx(tensor, abs=1e-4)
        assert ("sdp_01.pt" in first["files"]) == (parallel == "fsdp")
        assert "rank_01.pt" in first["files"]
    assert any("tokenizer.codebook.codes" in training["tensors"] for training in trainings)


@pytest.mark.slow
def test_a_teacher_that_follows_the_encoder_is_the_same_in_all_processes(home: Path) -> None:
    crews = []
    for name, ranks in (("one teacher", 1), ("ddp", 2), ("fsdp", 2)):
        spread = () if ranks == 1 else (f"pretrain.parallel={name}",)
        crews.append(Crew(home / "experiment.yaml", home / f"averaged {name}", ranks, (*AVERAGED_TEACHER, *spread)))
        assert crews[-1].run() == [0] * ranks
    (single,) = crews[0].kept()
    for crew in crews[1:]:
        (first,), (second,) = crew.kept(0), crew.kept(1)
        for name, tensor in single["tensors"].items():
            assert np.array_equal(first["tensors"][name], second["tensors"][name])
            assert first["tensors"][name] == pytest.approx(tensor, abs=1e-4)
    weight = "encoder.stem.embed.weight"
    distance = np.abs(single["tensors"][f"teacher.{weight}"] - single["tensors"][weight]).max()
    assert distance > 1e-3
    assert int(single["tensors"]["teacher.updates"]) == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_that_are_stopped_and_killed_go_on_exactly(home: Path, parallel: str) -> None:
    spread = (f"pretrain.parallel={parallel}",)
    whole = Crew(home / "dropout.yaml", home / f"whole {parallel}", overrides=spread)
    parts = Crew(home / "dropout.yaml", home / f"parts {parallel}", overrides=spread)
    assert whole.run() == [0, 0]

    assert parts.run(end="1:4:SIGTERM") == [0, 0]
    assert sorted(parts.said(rank).partition(":")[0] for rank in (0, 1)) == ["Interrupted", "StoppedElsewhere"]
    assert f"stopped after step 5 of {STEPS}" in parts.told
    # When one is gone, the other ends as well.
    assert parts.run(end="1:1:SIGKILL") == [1, -9]
    assert (parts.work / "checkpoints" / "step_5").is_dir()
    assert parts.run() == [0, 0]

    for figure in ("loss", "grad_norm", "masked_accuracy"):
        assert parts.curves(figure) == whole.curves(figure)
    for rank in (0, 1):
        (expected,), (found,) = whole.kept(rank), parts.kept(rank)
        assert found["seconds"] == expected["seconds"]
        for name, tensor in expected["tensors"].items():
            assert np.array_equal(found["tensors"][name], tensor)


@pytest.mark.slow
def test_checkpoints_of_other_processes_are_refused_or_dealt_out_anew(home: Path) -> None:
    whole = Crew(home / "experiment.yaml", home / "inelastic")
    crew = Crew(home / "experiment.yaml", home / "elastic")
    assert whole.run(ranks=1) == crew.run(ranks=1, end="0:2:SIGTERM") == [0]
    assert "stopped after step 3" in crew.said(0)

    crew.run()
    assert crew.told == (
        f"OssicleError: {crew.work} contains checkpoints of 1 process, but this run uses 2 processes under ddp. "
        "Continue without torchrun, or delete that folder to start again, or redistribute them with `--elastic`: the "
        "clips then come in a slightly different order"
    )
    sharded = Crew(crew.experiment, crew.folder, overrides=["pretrain.parallel=fsdp"])
    sharded.run(elastic=True)
    assert "`--elastic` cannot help, because under fsdp every process stores a shard of the weights" in sharded.told

    crew.run(elastic=True, end="0:1:SIGTERM")
    assert "stopped after step 5" in crew.told
    crew.run(ranks=1)
    assert crew.told.startswith(
        f"OssicleError: {crew.work} contains checkpoints of 2 processes under ddp, but this run uses 1 process. "
        "Continue with "
        "`torchrun --nproc-per-node 2` and `parallel: ddp`, or delete"
    )
    assert crew.run(ranks=1, elastic=True) == [0]

    assert crew.told == ""
    assert crew.kept()[0]["seconds"] == whole.kept()[0]["seconds"]
    # The clips are of one length: nothing waited in a bucket, so nothing is lost.
    ((_, expected),) = whole.curves("loss").items()
    ((_, found),) = crew.curves("loss").items()
    assert found == pytest.approx(expected, abs=1e-4)


def test_dealing_out_that_is_cut_short_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_what_fails_in_the_first_process_alone_ends_all_of_them(home: Path) -> None:
    plugin = home / "failing.py"
    plugin.write_text(FAILING)
    overrides = [f"plugins=[{plugin}]", "schedule.iterations=[{tokenizer: failing}]"]
    crew = Crew(home / "experiment.yaml", home / "failing", overrides=overrides)
    crew.run()
    assert crew.said(0) == "OssicleError: one process fits, and sums to 1.0"
    assert crew.said(1).startswith("StoppedElsewhere: another process")


def test_processes_agree_on_what_is_damaged(home: Path) -> None:
    crew = Crew(home / "experiment.yaml", home / "damaged")
    assert crew.run() == [0, 0]
    (weights,) = (crew.folder / "store").glob("pretrain-*/encoder.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    assert crew.run() == [0, 0]
    assert crew.told == ""
    assert weights.read_bytes() == whole
    assert [len(crew.kept(rank)) for rank in (0, 1)] == [2, 2], "both take part when it is made again"


class Nested(Objective):
    """Layers in lists, one of them with a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(1, 1), nn.Sequential(nn.ModuleList([nn.Linear(1, 1)]))])
        self.lists = nn.ModuleList([nn.ModuleList([nn.Linear(1, 1)])])
        self.single = nn.Linear(1, 1)

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        raise NotImplementedError

    def parts(self) -> dict[str, nn.Module]:
        return {}


def test_the_outermost_members_of_lists_are_what_fsdp_splits() -> None:
    made = Nested()
    assert shards(made) == [*made.inner, made.lists[0][0]]
