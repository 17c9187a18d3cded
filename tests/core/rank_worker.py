"""One of the processes of `test_distributed.py`: walks through an experiment's stages as `ossicle run` does.

What each process ends every training with is kept beside the run; no report is written.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.distributed import first_rank_first, joined
from ossicle.core.errors import OssicleError
from ossicle.core.interfaces import Objective
from ossicle.core.stage_runner import run_stages
from ossicle.core.store import Store
from ossicle.experiment.check import check
from ossicle.tasks.objectives.masked_prediction import MaskedPrediction
from ossicle.training import corpus_training as training

engine_train, forward = training.train, MaskedPrediction.forward


def main(
    experiment: Path, out: Path, overrides: Sequence[str], *, rank: int, ranks: int, port: int, end: str, elastic: bool
) -> None:
    """Run an experiment as one of several processes; `end` is `RANK:STEP:SIGNAL`, or empty for none."""
    if ranks > 1:
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        os.environ.update({name: str(value) for name, value in places.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    kept = out / "kept" / str(rank)
    kept.mkdir(parents=True, exist_ok=True)
    training.train = keeping(kept)  # type: ignore[attr-defined]
    if end.startswith(f"{rank}:"):
        MaskedPrediction.forward = ending(*end.split(":")[1:])  # type: ignore[method-assign]
    with joined():
        pass
    try:
        # A program may run several experiments, one after another.
        with joined():
            corpora = Corpora(Silent())
            checked = first_rank_first(lambda: check(experiment, overrides, corpora, prepare=True))
            store = Store(out / "store")
            run_stages(checked.stages, store=store, plugins=checked.plugins, corpora=corpora, elastic=elastic)
    except OssicleError as error:
        (kept / "error").write_text(f"{type(error).__name__}: {error}")


def keeping(folder: Path) -> Any:
    def train(objective: Objective, *args: Any, **options: Any) -> Any:
        summary = engine_train(objective, *args, **options)
        number = len(list(folder.glob("*.json")))
        files = {file.name for file in options["folder"].rglob("*.pt")}
        kinds = {type(module).__name__ for module in objective.modules()}
        seen = {"files": sorted(files), "kinds": sorted(kinds), "seconds": summary.audio_seconds}
        (folder / f"{number}.json").write_text(json.dumps(seen))
        # A copy of each, for the tensors of a part may share their memory.
        save_file({name: value.clone() for name, value in objective.state_dict().items()}, folder / f"{number}.tensors")
        return summary

    return train


def ending(step: str, name: str) -> Any:
    steps = 0

    def stepping(objective: MaskedPrediction, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == int(step):
            signal.raise_signal(getattr(signal, name))
        return forward(objective, *args)

    return stepping


if __name__ == "rank_worker":
    main(**globals()["arguments"])
