"""Evaluate an encoder while it is pre-trained (`pretrain.watch`), so that a failing training shows early."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from ...core.build import build
from ...core.choices import PartChoice
from ...core.corpus import TEST
from ...core.distributed import world_size
from ...core.errors import ConfigError, Problem
from ...core.experiment import PretrainConfig
from ...core.interfaces import Encoder, FrontEnd
from ...core.stage_runner import StageRun
from ...core.stages import CorpusStage
from ...core.task import Features, Task
from ..evaluation.features import embed, judged_rows
from .monitor_split import monitor_problems, without_test


def monitor(
    run: StageRun[CorpusStage], front_end: FrontEnd, encoder: nn.Module, training: PretrainConfig
) -> Callable[[int], Mapping[str, float]]:
    """Return a function of the step that evaluates `encoder` every `training.watch_every` steps, else returns nothing.

    Raises:
        ConfigError: if the corpus does not suffice for an evaluation, or FSDP shards the encoder
    """
    if training.watch is None:
        return lambda step: {}
    evaluate = _Monitor(run, training, training.watch, front_end, encoder)
    return lambda step: evaluate() if step % training.watch_every == 0 else {}


class _Monitor:
    """A task that evaluates the encoder of a running stage."""

    def __init__(
        self,
        run: StageRun[CorpusStage],
        training: PretrainConfig,
        choice: PartChoice,
        front_end: FrontEnd,
        encoder: nn.Module,
    ) -> None:
        assert isinstance(encoder, Encoder)
        manifest = run.manifest()
        rows = judged_rows(run.inputs["survey"], manifest)
        seen = manifest.take(rows[manifest.splits[rows] != TEST])
        if problems := monitor_problems(seen):
            raise ConfigError([Problem("pretrain.watch", problem) for problem in problems])
        self._clips = without_test(seen)
        if training.parallel == "fsdp" and world_size() > 1:
            raise ConfigError(
                [Problem("pretrain.watch", "needs the whole encoder in each process: use `parallel: ddp`")]
            )
        self._task = build(choice, Task, seed=run.stage.seed)
        self._front_end, self._encoder = front_end, encoder
        self._crop_seconds = training.crop_seconds
        self._seed = run.stage.seed

    def __call__(self) -> dict[str, float]:
        """Compute the score of every view, as `monitor_METRIC_VIEW`."""
        was_training = self._encoder.training
        self._encoder.eval()
        every = np.arange(len(self._clips))
        rows, views = embed(self._clips, every, self._front_end, self._encoder, crop_seconds=self._crop_seconds)
        self._encoder.train(was_training)
        result = self._task.evaluate(Features(self._clips.take(rows), views), seed=self._seed)
        return {f"monitor_{score.metric}_{score.view}": score.value for score in result.scores}
