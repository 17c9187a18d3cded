"""The processes that train together: rank, exchange of values, and stopping together.

Notable choices:

- torch is imported only if there are several processes, or for tensors, so a failed check is reported quickly.
- Control messages use a separate Gloo group with a very long timeout, because the first rank can work for hours while
  the others wait.
- If several processes fail or stop on request, only one reports it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, TypeVar, cast

from .errors import OssicleError, StoppedElsewhere

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

_control_group: ProcessGroup | None = None
_single = False
_joins = count()
_STEP, _STAGE = timedelta(hours=1), timedelta(days=365)
"""Timeouts within a step, where the first process may evaluate an encoder, and within a stage."""


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, for the duration of a block.

    Does nothing if there is one process, or if they have joined already.

    Raises:
        OssicleError: if torchrun's variables are incomplete, or there are more processes than accelerators
        StoppedElsewhere: if another process ended the run; that process raises the cause
    """
    processes = os.environ.get("WORLD_SIZE") or "1"
    if processes == "1" or _several():
        yield
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise OssicleError(
            f"WORLD_SIZE is {processes}, but {', '.join(missing)} must be set as well: start with "
            f"`torchrun --nproc-per-node {processes} -m ossicle run …`, or unset WORLD_SIZE for one process"
        )
    from torch import distributed

    store = _join(next(_joins))
    try:
        yield
        from_first_rank(None)
    except BaseException as error:
        if not _is_first_to_report(store):
            raise StoppedElsewhere("another process ended this run and reports the cause") from error
        raise
    distributed.destroy_process_group()


def _join(number: int) -> Store:
    """Open both groups. Return the store that all processes share, which outlives them under torchrun."""
    from torch import cuda, distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    global _control_group
    device = compute_device()
    on_gpu = device.type == "cuda"
    if on_gpu:
        cuda.set_device(device)
    everything, rank, size = next(rendezvous("env://"))
    store = PrefixStore(f"join {number}", everything)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=_STEP,
        device_id=device if on_gpu else None,
    )
    _control_group = distributed.new_group(backend="gloo", timeout=_STAGE)
    return store


def _is_first_to_report(store: Store) -> bool:
    this = str(rank())
    try:
        reporter: bytes = store.compare_set("reported by", "", this)
    except RuntimeError:
        # The store ended with the process that hosts it.
        return False
    return reporter.decode() == this


def _several() -> bool:
    """Return whether there are other processes, without importing torch."""
    distributed = sys.modules.get("torch.distributed")
    return not _single and distributed is not None and distributed.is_available() and distributed.is_initialized()


@contextmanager
def as_single_process() -> Iterator[None]:
    """Let this process act as a single process for the duration of a block, so sums include only its values."""
    global _single
    before, _single = _single, True
    try:
        yield
    finally:
        _single = before


def rank() -> int:
    """Return the number of this process, from 0."""
    if not _several():
        return 0
    from torch import distributed

    return distributed.get_rank()


def world_size() -> int:
    """Return the number of processes that train together."""
    if not _several():
        return 1
    from torch import distributed

    return distributed.get_world_size()


def from_first_rank(value: T) -> T:
    """Return the value of the first rank on every rank. The others wait for it without a short timeout."""
    if not _several():
        return value
    from torch import distributed

    values = [value]
    distributed.broadcast_object_list(values, src=0, group=_control_group)
    return values[0]


def from_all_ranks(value: T) -> list[T]:
    """Return the values of all ranks, in order, on every rank."""
    if not _several():
        return [value]
    from torch import distributed

    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, value, group=_control_group)
    return cast("list[T]", values)


def sum_over_ranks(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over all ranks, in place."""
    if _several():
        from torch import distributed

        for tensor in tensors:
            distributed.all_reduce(tensor)


def copy_from_first_rank(*tensors: Tensor) -> None:
    """Replace each tensor by that of the first rank, in place."""
    if _several():
        from torch import distributed

        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


def compute_device() -> torch.device:
    """Return the accelerator of this process if there is one, else the CPU.

    Raises:
        OssicleError: if this machine has fewer accelerators than processes
    """
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank, count = int(os.environ.get("LOCAL_RANK") or 0), torch.cuda.device_count()
    if local_rank >= count:
        raise OssicleError(
            f"process {local_rank} of this machine needs a separate GPU, but there are only {count}; "
            f"start `torchrun --nproc-per-node {count} …` at most, or set CUDA_VISIBLE_DEVICES= to compute on the CPU"
        )
    return torch.device("cuda", local_rank)
