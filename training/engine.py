"""Train an objective with fairseq2's `Trainer`. No other module knows the trainer.

Notable choices:

- The trainer is built by hand, because fairseq2's recipe layer takes over logging, environment and early stopping.
- Metrics use fairseq2's `MetricBag`, which sums them over ranks.
- SIGINT or SIGTERM to any process stops all of them after the current step, writes a checkpoint and raises
  `Interrupted`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

import soundfile  # noqa: F401  # isort: skip  # fairseq2 takes its libsndfile, so it must come first
import fairseq2.recipe  # noqa: F401  # isort: skip  # importing fairseq2.trainer first ends in a circular import
import torch
from fairseq2.checkpoint import NOOP_HG_EXPORTER, CheckpointManager, StandardCheckpointManager
from fairseq2.data.data_pipeline import DataPipeline
from fairseq2.datasets import DataPipelineReader
from fairseq2.early_stopper import NOOP_EARLY_STOPPER
from fairseq2.file_system import FileSystem
from fairseq2.gang import Gangs
from fairseq2.io import TensorFileDumper, TensorFileLoader
from fairseq2.metrics import Mean, MetricBag, Sum
from fairseq2.metrics.recorders import (
    NOOP_METRIC_RECORDER,
    CompositeMetricRecorder,
    JsonlMetricRecorder,
    MetricDescriptorRegistry,
    MetricRecorder,
    TensorBoardRecorder,
)
from fairseq2.optim.fp16_loss_scaler import NOOP_FP16_LOSS_SCALER
from fairseq2.profilers import NOOP_PROFILER
from fairseq2.runtime.dependency import get_dependency_resolver
from fairseq2.task import TaskStopException
from fairseq2.trainer import Trainer, TrainUnit
from fairseq2.utils.device_stat import NOOP_DEVICE_STAT_TRACKER
from fairseq2.utils.gc import NOOP_GARBAGE_COLLECTOR
from fairseq2.utils.progress import ProgressReporter, ProgressTask
from fairseq2.utils.stopwatch import Stopwatch
from fairseq2.utils.threading import ThreadPool
from fairseq2.validator import NOOP_VALIDATOR
from torch import Tensor, nn
from torcheval.metrics import Metric

from ..core.data import PatchBatch, SpectrogramBatch
from ..core.display import Display
from ..core.distributed import from_all_ranks, from_first_rank
from ..core.errors import Interrupted, OssicleError, PluginError
from ..core.experiment import TrainingConfig
from ..core.interfaces import FrontEnd, Objective, ObjectiveOutput
from . import objective_extras as extras
from .layer_switches import checkpoint_gradients, compile_layers
from .optimization import build_lr_schedule, build_optimizer
from .parallel import SpreadObjective, training_gangs
from .precision import has_bf16
from .trainer_state import Layout, claim, settle, whole_weights

StepListener = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class CheckpointHistory:
    """The checkpoints of a finished training that are still on disk.

    Attributes:
        steps: the optimiser steps after which they were written, ascending; the last one ends the training
        load: loads the mean of the weights at the given steps into the objective
    """

    steps: Sequence[int]
    load: Callable[[Sequence[int]], None]


@dataclass(frozen=True)
class TrainingSummary:
    """The cost of a finished training.

    Attributes:
        steps: optimiser steps
        audio_seconds: real audio seen, in seconds
        wall_seconds: time spent, over all interruptions
        cpu_seconds: processor time of all processes since their last start
    """

    steps: int
    audio_seconds: float
    wall_seconds: float
    cpu_seconds: float


def train(
    objective: Objective,
    front_end: FrontEnd,
    stream: Callable[[int], DataPipeline],
    settings: TrainingConfig,
    *,
    folder: Path,
    seed: int,
    device: torch.device,
    display: Display,
    on_publish: StepListener,
    first_batches: Callable[[], Iterable[PatchBatch]] = tuple,
    keep_checkpoints: int = 1,
    choose_weights: Callable[[CheckpointHistory], None] | None = None,
    elastic: bool = False,
) -> TrainingSummary:
    """Train `objective` in place for `settings.steps` steps, continuing from the newest checkpoint in `folder`.

    Each of several processes trains on its share, and has the whole objective at the end.

    Args:
        stream: returns this process's share of the endless stream of `SpectrogramBatch`, starting at the given clip
            number
        folder: where checkpoints, `metrics/train.jsonl` and TensorBoard files are written
        first_batches: returns the start of the whole stream for the objective's `prepare`, if there is no checkpoint
        on_publish: called with the step and its metrics, histograms included, every `settings.log_every` steps, on the
            first rank
        keep_checkpoints: number of last checkpoints that are kept for `choose_weights`
        choose_weights: called after the last step, to load other weights than the last ones
        elastic: whether to continue from the checkpoint of a different number of processes

    Raises:
        Interrupted: if SIGINT or SIGTERM came; a checkpoint was written
        OssicleError: if the weights are not finite, checked every `settings.log_every` steps, or if these processes
            cannot continue from the checkpoints of other processes
    """
    cpu_before = time.process_time()
    if settings.precision == "bf16" and not has_bf16():
        display.warn("this processor has no bf16 arithmetic: training in bf16 is much slower; set `precision: fp32`")
    gangs = training_gangs(device, settings.parallel)
    checkpoints = _checkpoint_manager(folder, gangs)
    objective.to(device)
    front_end.to(device)
    with _stop_requested() as stop, _computing_on(settings.threads):
        newest = from_first_rank(checkpoints.maybe_get_last_step_number(exclude_model_only=True))
        layout = Layout(gangs.root.size, sharded=gangs.sdp.size > 1)
        layout = claim(folder, newest, layout, elastic=elastic, seed=seed, device=device)
        reader = DataPipelineReader[Any](stream(layout.first_clip), gangs)
        settle(folder, newest, layout, reader.state_dict())
        if newest is None:
            _prepare(objective, first_batches(), seed)
        _delete_irregular(checkpoints, settings)
        if settings.gradient_checkpointing:
            checkpoint_gradients(objective)
        if settings.compile:
            compile_layers(objective)
        spread = SpreadObjective(objective, gangs)
        unit = _ObjectiveUnit(spread.model, objective, front_end)
        publisher = _Publisher(unit, settings.steps, display, on_publish)
        recorder = _recorder(folder, publisher) if gangs.root.rank == 0 else NOOP_METRIC_RECORDER
        trainer = _build_trainer(
            objective, unit, reader, settings, gangs, checkpoints, seed, recorder, display, keep_checkpoints
        )
        with closing(trainer):
            _run(trainer, unit, spread, stop, settings)
    spread.gather()
    objective.eval()
    if choose_weights is not None:
        choose_weights(_history(folder, checkpoints, objective, settings, keep_checkpoints))
    return _summary(trainer, cpu_before)


def _run(
    trainer: Trainer, unit: _ObjectiveUnit, spread: SpreadObjective, stop: threading.Event, settings: TrainingConfig
) -> None:
    def before_step() -> None:
        taken = trainer._step_nr - 1
        if taken % settings.log_every == 0:
            _refuse_divergence(spread, taken)
        if any(from_all_ranks(stop.is_set())):
            request_stop(trainer)

    unit.before_step = before_step
    with suppress(TaskStopException):
        trainer.run()
    _refuse_divergence(spread, trainer._step_nr)
    # A request can come during the last step.
    if any(from_all_ranks(stop.is_set())):
        raise Interrupted(f"stopped after step {trainer._step_nr} of {settings.steps}; a checkpoint is kept")


def _refuse_divergence(spread: SpreadObjective, step: int) -> None:
    # fairseq2 also clips gradients that are not finite, and then every later weight is NaN.
    if not all(from_all_ranks(spread.is_finite())):
        raise OssicleError(
            f"the training has diverged: after step {step} not all weights are finite; "
            "lower `lr`, or increase `warmup_steps`"
        )


def _summary(trainer: Trainer, cpu_before: float) -> TrainingSummary:
    seconds = float(trainer._metric_bag.metrics["total_audio_seconds"].compute())
    return TrainingSummary(
        steps=trainer._step_nr,
        audio_seconds=sum(from_all_ranks(seconds)),
        wall_seconds=trainer._base_wall_time + trainer._wall_watch.get_elapsed_time(),
        cpu_seconds=sum(from_all_ranks(time.process_time() - cpu_before)),
    )


def _is_regular(step: int, settings: TrainingConfig) -> bool:
    return step % settings.checkpoint_every == 0 or step == settings.steps


def _delete_irregular(checkpoints: CheckpointManager, settings: TrainingConfig) -> None:
    """Delete checkpoints of interruptions except for the newest, which the training continues from."""
    for step in from_first_rank(checkpoints.get_step_numbers()[:-1]):
        if not _is_regular(step, settings):
            checkpoints.delete_checkpoint(step)


def _history(
    folder: Path, checkpoints: CheckpointManager, objective: Objective, settings: TrainingConfig, count: int
) -> CheckpointHistory:
    regular = [step for step in checkpoints.get_step_numbers() if _is_regular(step, settings)]
    parameters = dict(objective.named_parameters())

    def load(steps: Sequence[int]) -> None:
        mean: dict[str, Tensor] = {}
        for step in steps:
            for name, value in whole_weights(folder / "checkpoints" / f"step_{step}", parameters).items():
                # Tensors that cannot be averaged come from the last checkpoint.
                if value.is_floating_point():
                    value = mean.get(name, 0.0) + value.double() / len(steps)
                mean[name] = value
        objective.load_state_dict(mean)

    return CheckpointHistory(regular[-count:], load)


def _prepare(objective: Objective, batches: Iterable[PatchBatch], seed: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        objective.eval()
        extras.prepare(objective, batches)
        objective.train()


@contextmanager
def _computing_on(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Histogram(Metric[Tensor]):
    """Counts per code, summed over steps and ranks."""

    counts: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self._add_state("counts", torch.zeros(size, dtype=torch.int64))

    def update(self, counts: Tensor) -> Self:
        self.counts += counts
        return self

    def compute(self) -> Tensor:
        return self.counts.clone()

    def merge_state(self, metrics: Any) -> Self:
        for metric in metrics:
            self.counts += metric.counts.to(self.device)
        return self


class _ObjectiveUnit(TrainUnit[SpectrogramBatch]):  # type: ignore[type-var]  # movable, but not a fairseq2 class
    """Adds the metrics of an objective to those of fairseq2.

    Attributes:
        spread: the objective as the ranks train it
        other_cpu_seconds: processor time that is not part of the training, such as that of the monitor
        before_step: called on every rank before a step
    """

    def __init__(self, spread: nn.Module, objective: Objective, front_end: FrontEnd) -> None:
        self.spread = spread
        self.other_cpu_seconds = 0.0
        self.before_step: Callable[[], None] = lambda: None
        self._objective = objective
        self._front_end = front_end
        self._published_at = time.perf_counter()
        self._cpu_start = time.process_time()
        self.histograms: dict[str, Tensor] = {}

    def prepare_metric_bag(self, metric_bag: MetricBag) -> None:
        for name in ("loss", *self._objective.metric_names):
            metric_bag.add(name, Mean())
        metric_bag.add("audio_seconds", Sum())
        metric_bag.add("total_audio_seconds", Sum())
        metric_bag.add("total_clips", Sum())
        for name, size in extras.histogram_sizes(self._objective).items():
            metric_bag.add(name, _Histogram(size))

    def set_step_nr(self, step_nr: int) -> None:
        self.before_step()

    def process_batch(self, batch: SpectrogramBatch, metric_bag: MetricBag) -> tuple[Tensor, int]:
        patches: PatchBatch = self._front_end.patches(extras.augment(self._objective, batch))
        output: ObjectiveOutput = self.spread(patches)
        metric_bag.get("loss", Mean).update(output.loss.detach() / output.count, weight=output.count)
        self._check_names("metrics", self._objective.metric_names, output.metrics)
        self._check_names("histograms", extras.histogram_sizes(self._objective), output.histograms)
        for name, (total, count) in output.metrics.items():
            if count:
                metric_bag.get(name, Mean).update(total.detach() / count, weight=count)
        for name, counts in output.histograms.items():
            metric_bag.get(name, _Histogram).update(counts)
        metric_bag.get("audio_seconds", Sum).update(patches.seconds)
        metric_bag.get("total_audio_seconds", Sum).update(patches.seconds)
        metric_bag.get("total_clips", Sum).update(len(patches.valid))
        return output.loss, output.count

    def _check_names(self, kind: str, declared: Iterable[str], returned: Iterable[str]) -> None:
        if set(declared) != set(returned):
            raise PluginError(
                f"objective `{type(self._objective).__name__}` declares the {kind} {sorted(declared)}, but returns "
                f"{sorted(returned)}"
            )

    def process_metric_values(self, values: MutableMapping[str, object]) -> None:
        self.histograms = {name: _tensor(values.pop(name)) for name in extras.histogram_sizes(self._objective)}
        values.update(extras.summarise(self._objective, self.histograms))
        now = time.perf_counter()
        seconds = float(_tensor(values["audio_seconds"]))
        values["audio_seconds_per_second"] = seconds / max(now - self._published_at, 1e-9)
        self._published_at = now
        values["cpu_seconds"] = time.process_time() - self._cpu_start - self.other_cpu_seconds

    def warnings(self, metrics: Mapping[str, float], progress: float) -> list[str]:
        return list(extras.warnings(self._objective, metrics, progress))


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value


class _Publisher(MetricRecorder):
    """Passes published metrics to the display and to the listener."""

    def __init__(self, unit: _ObjectiveUnit, steps: int, display: Display, on_publish: StepListener) -> None:
        self._unit = unit
        self._steps = steps
        self._display = display
        self._on_publish = on_publish
        self._warned: set[str] = set()

    def record_metric_values(self, category: str, values: Mapping[str, object], step_nr: int | None = None) -> None:
        step = step_nr or 0
        figures = {name: float(value) for name, value in values.items() if isinstance(value, int | float | Tensor)}
        self._display.metrics(figures)
        warnings = self._unit.warnings(figures, step / self._steps)
        for warning in warnings:
            kind = warning.partition(":")[0]
            if kind not in self._warned:
                self._warned.add(kind)
                self._display.warn(f"step {step}: {warning}")
        before = time.process_time()
        self._on_publish(step, {**figures, **self._unit.histograms, "warnings": warnings})
        self._unit.other_cpu_seconds += time.process_time() - before

    def close(self) -> None:
        pass


def _recorder(folder: Path, publisher: _Publisher) -> MetricRecorder:
    names = MetricDescriptorRegistry([])
    files = get_dependency_resolver().resolve(FileSystem)
    return CompositeMetricRecorder(
        [
            JsonlMetricRecorder(folder, files, names),
            TensorBoardRecorder(folder, names),
            publisher,
        ]
    )


def _checkpoint_manager(folder: Path, gangs: Gangs) -> CheckpointManager:
    resolver = get_dependency_resolver()
    return StandardCheckpointManager(
        folder,
        gangs,
        resolver.resolve(FileSystem),
        resolver.resolve(TensorFileLoader),
        resolver.resolve(TensorFileDumper),
        resolver.resolve(ThreadPool),
    )


def _build_trainer(
    objective: Objective,
    unit: _ObjectiveUnit,
    reader: DataPipelineReader[Any],
    settings: TrainingConfig,
    gangs: Gangs,
    checkpoints: CheckpointManager,
    seed: int,
    recorder: MetricRecorder,
    display: Display,
    keep_checkpoints: int,
) -> Trainer:
    optimizer = build_optimizer(objective, settings)
    wall_watch = Stopwatch()
    wall_watch.start()
    return Trainer(
        model=unit.spread,
        unit=unit,
        data_reader=reader,
        gangs=gangs,
        amp=settings.precision == "bf16",
        amp_dtype=torch.bfloat16,
        optimizer=optimizer,
        lr_scheduler=build_lr_schedule(optimizer, settings),  # type: ignore[arg-type]  # fairseq2 has the old name
        fp16_loss_scaler=NOOP_FP16_LOSS_SCALER,
        validator=NOOP_VALIDATOR,
        early_stopper=NOOP_EARLY_STOPPER,
        checkpoint_manager=checkpoints,
        hg_exporter=NOOP_HG_EXPORTER,
        metric_recorder=recorder,
        garbage_collector=NOOP_GARBAGE_COLLECTOR,
        profiler=NOOP_PROFILER,
        device_stat_tracker=NOOP_DEVICE_STAT_TRACKER,
        wall_watch=wall_watch,
        progress_reporter=_DisplayedProgress(display),
        seed=seed,
        max_grad_norm=settings.max_grad_norm,
        max_num_steps=settings.steps,
        checkpoint_every_n_steps=settings.checkpoint_every,
        # The checkpoint of an interruption must not replace a regular one.
        keep_last_n_checkpoints=keep_checkpoints + (keep_checkpoints > 1),
        publish_metrics_every_n_steps=settings.log_every,
    )


class _DisplayedProgress(ProgressReporter):
    """fairseq2's view of a `Display`."""

    def __init__(self, display: Display) -> None:
        self._display = display

    def create_task(self, name: str, total: int | None, completed: int = 0, *, start: bool = True) -> ProgressTask:
        return _DisplayedTask(self._display, total, completed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ex: Any) -> None:
        pass


class _DisplayedTask(ProgressTask):
    def __init__(self, display: Display, total: int | None, completed: int) -> None:
        self._display = display
        self._completed = completed
        display.start("training", total, completed)

    def start(self) -> None:
        pass

    def step(self, value: int = 1) -> None:
        self._completed += value
        self._display.advance(self._completed)

    def close(self) -> None:
        self._display.finish()


def request_stop(trainer: Trainer) -> None:
    """Make `trainer` stop after its current step, with a checkpoint.

    fairseq2 0.8.1 ignores `Trainer.request_stop` if a number of steps is set, so this sets a private attribute.
    """
    trainer.request_stop()
    trainer._max_num_steps = trainer._step_nr


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """Treat the first SIGINT or SIGTERM as a request to stop. A second one has its default effect."""
    requested = threading.Event()
    previous: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        restore()
        requested.set()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, request)
    except ValueError:
        # Signal handlers can be set only in the main thread. In other threads, the program must stop the run.
        previous.clear()
    try:
        yield requested
    finally:
        restore()
