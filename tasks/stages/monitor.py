"""Judge an encoder while it learns, so that a training that goes astray is seen before it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from ...core.choices import PartChoice
from ...core.corpus import TEST
from ...core.distributed import world_size
from ...core.errors import ConfigError, Problem
from ...core.experiment import PretrainConfig
from ...core.interfaces import Encoder, FrontEnd
from ...core.parts import build
from ...core.stage_runner import StageRun
from ...core.task import Features, Task
from ..evaluation.features import embed, judged_rows
from .monitor_split import watch_problems, without_test


def watcher(
    run: StageRun, front_end: FrontEnd, encoder: nn.Module, training: PretrainConfig
) -> Callable[[int], Mapping[str, float]]:
    """Give what judges `encoder` after every `training.watch_every` steps, and says nothing after the others.

    Raises:
        ConfigError: if the corpus cannot be watched by, or FSDP holds the encoder in pieces
    """
    if training.watch is None:
        return lambda step: {}
    watch = _Watch(run, training.watch, front_end, encoder)
    return lambda step: watch() if step % training.watch_every == 0 else {}


class _Watch:
    """A task that judges the encoder of a running stage."""

    def __init__(self, run: StageRun, choice: PartChoice, front_end: FrontEnd, encoder: nn.Module) -> None:
        assert isinstance(encoder, Encoder)
        training: PretrainConfig = run.stage.settings["training"]
        manifest = run.manifest()
        rows = judged_rows(run.inputs["survey"], manifest)
        seen = manifest.take(rows[manifest.splits[rows] != TEST])
        if problems := watch_problems(seen):
            raise ConfigError([Problem("pretrain.watch", problem) for problem in problems])
        self._clips = without_test(seen)
        if training.parallel == "fsdp" and world_size() > 1:
            raise ConfigError([Problem("pretrain.watch", "needs a whole encoder in a process: use `parallel: ddp`")])
        self._task = build(choice, Task)
        self._front_end, self._encoder = front_end, encoder
        self._crop_seconds = training.crop_seconds
        self._seed = run.stage.seed

    def __call__(self) -> dict[str, float]:
        """The score of every view, by `watched_` and its metric and view."""
        was_training = self._encoder.training
        self._encoder.eval()
        every = np.arange(len(self._clips))
        rows, views = embed(self._clips, every, self._front_end, self._encoder, crop_seconds=self._crop_seconds)
        self._encoder.train(was_training)
        result = self._task.evaluate(Features(self._clips.take(rows), views), seed=self._seed)
        return {f"watched_{score.metric}_{score.view}": score.value for score in result.scores}
