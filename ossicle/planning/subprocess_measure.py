"""Measurements in a separate process, so that the memory of a training is measured without anything else.

Notable choices:

- An order names a stage of a resolved experiment, which the process reads again.
- The memory that imports take is not counted as memory of the stage.
"""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from ..core.choices import PartChoice
from ..core.corpora import Corpora
from ..core.display import Silent
from ..core.errors import OssicleError
from ..core.hooks import hookimpl
from ..core.manifest import Labels, Manifest, text_column
from ..experiment.check import compose
from ..experiment.stage_order import with_inputs
from ..plugins.launcher_interface import end_with_parent

Order: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = dict[str, Any]


def measured(what: Callable[[Order], Answer], order: Order) -> Answer:
    """Run a measurement in a new process and wait for its answer.

    Args:
        what: `calibration` or `dry_run_stage`

    Raises:
        OssicleError: if it fails, or its process is killed
    """
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, initializer=end_with_parent) as pool:
        try:
            answer = pool.submit(_answer, what, order).result()
        except BrokenProcessPool as error:
            raise OssicleError(
                f"the process of `{order['stage']}` was killed; if the memory did not suffice, use a smaller encoder, "
                "shorter `crop_seconds` or a machine with more memory"
            ) from error
    if isinstance(answer, str):
        raise OssicleError(answer)
    return answer


def _answer(what: Callable[[Order], Answer], order: Order) -> Answer | str:
    # Not every error of ours can be pickled.
    try:
        return what(order)
    except OssicleError as error:
        return str(error)


def calibration(order: Order) -> Answer:
    """Take a few optimiser steps of a stage on noise.

    The order: `experiment`, the file; `stage`; `most_clips`; `noise`, which replaces the stage's corpus.
    """
    from ..training import engine  # noqa: F401  # before the meter starts
    from ..training.memory import keep_freed_memory
    from ..training.memory_meter import MemoryMeter
    from .cost import Noise, measure_steps
    from .previews import Previews

    checked = compose(Path(order["experiment"]), [])
    noise = Noise(**order["noise"])
    names = {stage.name: stage for stage in checked.stages}
    training = names[order["stage"]].training_config
    assert training is not None  # checked by the caller
    corpora = PlaceholderCorpora(noise.classes, multi_label=noise.multi_label)
    keep_freed_memory()
    meter = MemoryMeter()
    preview = Previews(checked.stages, checked.plugins, corpora, drawn=True).preview(order["stage"])
    assert preview is not None
    taken = measure_steps(preview.objective, preview.front_end, noise, training, most_clips=order["most_clips"])
    return {"clips": taken.clips, "seconds": taken.seconds, "bytes": meter.grown()}


def dry_run_stage(order: Order) -> Answer:
    """Run a stage, and the stages that it needs unless their artifacts exist.

    The order: `experiment`, the file; `stage`; `store`, the folder of artifacts.
    """
    from ..core.stage_runner import run_stages
    from ..core.store import Store
    from ..experiment.full_disk import naming_full_disk
    from ..training import engine  # noqa: F401  # before the meter starts
    from ..training.memory_meter import MemoryMeter

    # torcheval warns about an accuracy of 0 as if it had not been measured.
    logging.disable(logging.WARNING)
    checked = compose(Path(order["experiment"]), [])
    clock = _Clock(order["stage"])
    checked.plugins.manager.register(clock)
    meter = MemoryMeter()
    run = partial(
        run_stages,
        with_inputs(checked.stages, [order["stage"]]),
        store=Store(Path(order["store"])),
        plugins=checked.plugins,
        corpora=Corpora(Silent()),
    )
    with naming_full_disk(Path(order["store"])):
        records = run()
        if records[-1].reused:
            # Its short form equals that of another training, or an earlier dry run has made it.
            shutil.rmtree(records[-1].artifact.path)
            records = run()
    return {
        "bytes": meter.grown(),
        "seconds": records[-1].seconds,
        "step_seconds": clock.step_seconds(),
        "loss": clock.loss,
    }


class PlaceholderCorpora(Corpora):
    """Corpora without recordings: only the labels are known."""

    def __init__(self, classes: int, *, multi_label: bool) -> None:
        super().__init__(Silent())
        self._placeholder = placeholder_manifest(classes, multi_label=multi_label)

    def manifest(self, choice: PartChoice) -> Manifest:
        return self._placeholder


def placeholder_manifest(classes: int, *, multi_label: bool) -> Manifest:
    """Make the manifest of a corpus without clips."""
    import numpy as np

    return Manifest(
        root=Path(),
        paths=text_column([]),
        frames=np.empty(0, np.int64),
        sample_rates=np.empty(0, np.int32),
        splits=np.empty(0, np.str_),
        labels=Labels.of([]),
        label_names=tuple(f"class {number}" for number in range(classes)),
        multi_label=multi_label,
    )


class _Clock:
    """Records when the steps of a stage end."""

    def __init__(self, stage: str) -> None:
        self.loss = float("nan")
        self._stage = stage
        self._ends: list[tuple[int, float]] = []

    @hookimpl
    def ossicle_step_end(self, stage: str, step: int, metrics: Mapping[str, Any]) -> None:
        if stage == self._stage:
            self._ends.append((step, time.perf_counter()))
            self.loss = float(metrics["loss"])

    def step_seconds(self) -> float:
        """Compute the mean time between the ends of successive steps, over all trainings of the stage."""
        pairs = zip(self._ends[:-1], self._ends[1:], strict=True)
        taken = [after - before for (step, before), (following, after) in pairs if following == step + 1]
        return sum(taken) / len(taken)
