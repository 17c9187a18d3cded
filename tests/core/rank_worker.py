"""One of the processes of `test_distributed.py`, which runs the stages of an experiment like `ossicle run`.

The final state of every training is written per process to the folder `results` beside the store. There is no report.
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
from ossicle.core.distributed import joined
from ossicle.core.errors import OssicleError
from ossicle.core.interfaces import Objective
from ossicle.core.stage_runner import run_stages
from ossicle.core.store import Store
from ossicle.experiment.check import check
from ossicle.experiment.run import first_rank_first
from ossicle.tasks.objectives.masked_prediction import MaskedPrediction
from ossicle.training import corpus_training as training

engine_train, forward = training.train, MaskedPrediction.forward


def main(
    experiment: Path, out: Path, overrides: Sequence[str], *, rank: int, ranks: int, port: int, end: str, elastic: bool
) -> None:
    """Run an experiment as one of several processes.

    Args:
        end: `RANK:STEP:SIGNAL`, the process that receives a signal and the step; empty for no signal
    """
    if ranks > 1:
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        os.environ.update({name: str(value) for name, value in variables.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    results = out / "results" / str(rank)
    results.mkdir(parents=True, exist_ok=True)
    training.train = saving_results(results)  # type: ignore[attr-defined]
    if end.startswith(f"{rank}:"):
        MaskedPrediction.forward = raising_signal(*end.split(":")[1:])  # type: ignore[method-assign]
    with joined():
        pass
    try:
        # Join a second time, because a program can run several experiments.
        with joined():
            corpora = Corpora(Silent())
            checked = first_rank_first(lambda: check(experiment, overrides, corpora, prepare=True))
            store = Store(out / "store")
            run_stages(checked.stages, store=store, plugins=checked.plugins, corpora=corpora, elastic=elastic)
    except OssicleError as error:
        (results / "error").write_text(f"{type(error).__name__}: {error}")


def saving_results(folder: Path) -> Any:
    def train(objective: Objective, *args: Any, **options: Any) -> Any:
        summary = engine_train(objective, *args, **options)
        number = len(list(folder.glob("*.json")))
        files = {file.name for file in options["folder"].rglob("*.pt")}
        kinds = {type(module).__name__ for module in objective.modules()}
        facts = {"files": sorted(files), "kinds": sorted(kinds), "seconds": summary.audio_seconds}
        (folder / f"{number}.json").write_text(json.dumps(facts))
        # safetensors refuses tensors that share memory, so copy them.
        save_file({name: value.clone() for name, value in objective.state_dict().items()}, folder / f"{number}.tensors")
        return summary

    return train


def raising_signal(step: str, name: str) -> Any:
    steps = 0

    def counted_forward(objective: MaskedPrediction, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == int(step):
            signal.raise_signal(getattr(signal, name))
        return forward(objective, *args)

    return counted_forward


if __name__ == "rank_worker":
    main(**globals()["arguments"])
