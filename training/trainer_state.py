"""The checkpoints of a training, and their conversion for a different number of processes.

Notable choices:

- The layout is that of fairseq2: the state of trainer and data in one file per rank, and weights and optimiser state in
  one file, or one per rank under FSDP2. A file next to them describes the processes that wrote them.
- A different number of processes continues in the stream of clips after those that were used. Clips that waited in the
  buckets of the old processes are lost.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ..core.distributed import from_all_ranks, from_first_rank, rank
from ..core.errors import OssicleError

LAYOUT = "processes.json"


@dataclass(frozen=True)
class Layout:
    """The processes of a training.

    Attributes:
        processes: number of processes
        sharded: whether each holds a shard of the weights
        first_clip: the position in the stream of clips where they started
    """

    processes: int = 1
    sharded: bool = False
    first_clip: int = 0

    @classmethod
    def read(cls, folder: Path) -> Layout:
        """Read the layout of the checkpoints in a folder."""
        path = folder / LAYOUT
        return cls(**json.loads(path.read_text())) if path.is_file() else cls()

    def __str__(self) -> str:
        return "1 process" if self.processes == 1 else f"{self.processes} processes under {self.parallel}"

    @property
    def parallel(self) -> str:
        return "fsdp" if self.sharded else "ddp"

    @property
    def command(self) -> str:
        """Return the command that starts such processes."""
        if self.processes == 1:
            return "without torchrun"
        return f"with `torchrun --nproc-per-node {self.processes}` and `parallel: {self.parallel}`"


def claim(folder: Path, step: int | None, now: Layout, *, elastic: bool, seed: int, device: torch.device) -> Layout:
    """Check whether these processes can continue from the checkpoints in `folder`.

    Args:
        step: the newest checkpoint; None if there is none yet
        now: the processes of this run
        elastic: whether the checkpoint of a different number of processes may be redistributed
        seed: seed of the training

    Returns:
        `now`, with the clip at which these processes start to read.

    Raises:
        OssicleError: if other processes wrote the checkpoints, and they may not or cannot be redistributed
    """
    if step is None:
        return now
    was = from_first_rank(Layout.read(folder))
    if replace(was, first_clip=0) == now:
        return was
    _check_may_continue(folder, was, now, elastic=elastic)
    used = 0
    if rank() == 0:
        used = _deal_out(_checkpoint(folder, step), was.processes, now.processes, seed=seed, device=device)
    return replace(now, first_clip=from_first_rank(used))


def settle(folder: Path, step: int | None, layout: Layout, reader_state: Mapping[str, object]) -> None:
    """Store the result of `claim` for later starts.

    Args:
        reader_state: state of this process's reader, which starts at `layout.first_clip`
    """
    if Layout.read(folder) == layout:
        return
    # Each file is replaced atomically, so a killed process or a full disk leaves the previous one.
    if step is not None:
        file = _checkpoint(folder, step) / "data_reader" / f"dp_{rank():02}.pt"
        torch.save(reader_state, _unfinished(file))
        _unfinished(file).replace(file)
    from_all_ranks(None)
    if rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        _unfinished(folder / LAYOUT).write_text(json.dumps(asdict(layout)))
        _unfinished(folder / LAYOUT).replace(folder / LAYOUT)


def _unfinished(file: Path) -> Path:
    return file.with_suffix(".unfinished")


def _checkpoint(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step_{step}"


def _check_may_continue(folder: Path, was: Layout, now: Layout, *, elastic: bool) -> None:
    remedies = f"Continue {was.command}, or delete that folder to start again"
    if was.sharded or now.sharded:
        remedies += "; `--elastic` cannot help, because under fsdp every process stores a shard of the weights"
    elif elastic:
        return
    else:
        remedies += ", or redistribute them with `--elastic`: the clips then come in a slightly different order"
    raise OssicleError(f"{folder} contains checkpoints of {was}, but this run uses {now}. {remedies}")


def _deal_out(checkpoint: Path, was: int, now: int, *, seed: int, device: torch.device) -> int:
    """Give every process the state of an old one. Additional processes get different random numbers.

    Returns:
        The number of clips that all processes used.
    """

    def file(number: int) -> Path:
        return checkpoint / "trainer" / f"rank_{number:02}.pt"

    states = [torch.load(file(old), map_location="cpu", weights_only=False) for old in range(was)]
    bags = [state["_metric_bag"] for state in states]
    names = [name for name in bags[0] if name.startswith("total_")]
    totals = {name: {"weighted_sum": sum(bag[name]["weighted_sum"] for bag in bags)} for name in names}
    nothing = {name: {"weighted_sum": torch.zeros((), dtype=torch.float64)} for name in names}
    devices = dict.fromkeys([torch.device("cpu"), device])
    for new in range(max(was, now)):
        state = dict(states[new % was])
        state["_metric_bag"] = {**state["_metric_bag"], **(nothing if new else totals)}
        if new >= was:
            generators = [torch.Generator(target).manual_seed(seed + new) for target in devices]
            state["_rng_bag"] = {"generators": [generator.get_state() for generator in generators]}
        torch.save(state, _unfinished(file(new)))
    # All files are written before any is replaced, so a process that is killed while writing leaves the old state.
    for new in range(max(was, now)):
        _unfinished(file(new)).replace(file(new))
    return int(totals["total_clips"]["weighted_sum"])


def whole_weights(checkpoint: Path, parameters: Collection[str]) -> dict[str, Tensor]:
    """Read the weights of a checkpoint from one or several files.

    Args:
        checkpoint: a folder `step_N`
        parameters: names of the tensors that FSDP2 shards along their first axis; every rank has the others in full
    """
    files = sorted((checkpoint / "model" / "pp_00" / "tp_00").glob("sdp_*.pt"))
    shards = [torch.load(file, map_location="cpu", weights_only=True) for file in files]
    return {
        name: torch.cat([shard[name] for shard in shards]) if name in parameters else value
        for name, value in shards[0].items()
    }
