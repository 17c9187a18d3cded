"""Measure the cost of training with several processes on this machine.

Notable choices:

- The encoder is tiny, so the share of communication is as large as it can be.
- The measure is processor seconds, because there may be more processes than cores.
- The waiting time is computed from the batches, assuming that a step takes a time proportional to the patches of the
  largest batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat
from multiprocessing import get_context
from socket import socket

import soundfile  # noqa: F401  # isort: skip  # fairseq2 takes its libsndfile, so it must come first
import numpy as np
import torch

from ..audio.pipeline import training_pipeline
from ..core.distributed import joined
from ..core.interfaces import building_with
from ..tasks.objectives.masked_prediction import MaskedPrediction
from ..tasks.objectives.objective_config import MaskedPredictionConfig
from ..tokenizers.random_projection import RandomProjection
from ..tokenizers.tokenizer_config import RandomProjectionConfig
from ..training.memory import keep_freed_memory
from ..training.optimization import build_optimizer
from ..training.parallel import SpreadObjective, training_gangs
from .inference_works import encoder, front_end
from .scale import silent_recordings, simulated
from .training_works import SETTINGS


@dataclass(frozen=True)
class RankCost:
    """The cost of training with a number of processes.

    Attributes:
        ranks: number of processes
        cpu_seconds: processor seconds of all processes per second of audio
        padding: share of padding among the patches
        waiting: share of the time that processes wait for the one with the largest batch
    """

    ranks: int
    cpu_seconds: float
    padding: float
    waiting: float


def rank_costs(ranks: Sequence[int] = (1, 2), *, steps: int = 8) -> list[RankCost]:
    """Pre-train with each number of processes, using DDP over gloo."""
    return [_rank_cost(count, steps) for count in ranks]


def _rank_cost(ranks: int, steps: int) -> RankCost:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Each process waits for the others, so none runs two shares.
    with ProcessPoolExecutor(ranks, mp_context=get_context("spawn")) as pool:
        shares = list(pool.map(_train, range(ranks), repeat(ranks), repeat(port), repeat(steps)))
    patches = np.array([share.patches for share in shares])  # (ranks, steps)
    return RankCost(
        ranks,
        cpu_seconds=sum(share.cpu_seconds for share in shares) / sum(share.audio_seconds for share in shares),
        padding=1 - sum(share.real_patches for share in shares) / float(patches.sum()),
        waiting=1 - float(patches.sum()) / (ranks * float(patches.max(0).sum())),
    )


@dataclass(frozen=True)
class _Share:
    """The work of one process: the patches of each of its batches, padding included, and totals of the rest."""

    patches: Sequence[int]
    real_patches: int
    audio_seconds: float
    cpu_seconds: float


def _train(rank: int, ranks: int, port: int, steps: int) -> _Share:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"})
    torch.set_num_threads(1)
    keep_freed_memory()
    with joined(), silent_recordings():
        own, projection = front_end(), RandomProjection(RandomProjectionConfig(normalize="none"), patch_dim=256)
        with building_with(0):
            objective = MaskedPrediction(MaskedPredictionConfig(), encoder("tiny"), projection).train()
        spread = SpreadObjective(objective, training_gangs(torch.device("cpu"), "ddp")).model
        optimizer = build_optimizer(objective, SETTINGS)
        manifest = simulated(2000)
        stream = training_pipeline(
            manifest,
            manifest.rows_in("train"),
            own,
            batch_seconds=32.0,
            crop_seconds=10.0,
            seed=0,
            rank=rank,
            world_size=ranks,
        )
        batches = [own.patches(batch) for batch in islice(stream, 1 + steps)]
        for number, batch in enumerate(batches):
            if number == 1:
                started = time.process_time()
            output = spread(batch)
            (output.loss / output.count).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        cpu_seconds = time.process_time() - started
    counted = batches[1:]
    return _Share(
        patches=[batch.valid.numel() for batch in counted],
        real_patches=sum(int(batch.valid.sum()) for batch in counted),
        audio_seconds=float(sum(batch.seconds for batch in counted)),
        cpu_seconds=cpu_seconds,
    )
