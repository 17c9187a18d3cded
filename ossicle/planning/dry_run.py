"""A dry run: a few optimiser steps of every training of an experiment at full size, on synthetic clips.

Notable choices:

- The whole experiment is changed: every corpus is replaced by a synthetic one and every `TrainingConfig` by a short
  one. This way, third-party parts also run.
- Each training runs in a separate process, so that its memory can be measured.
- Stages that no training needs are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..audio.corpus_config import SyntheticConfig
from ..core.choices import PartChoice
from ..core.config import Config
from ..core.config_files.experiment_loader import resolved_yaml
from ..core.corpora import Corpora
from ..core.display import Silent
from ..core.errors import CorpusError, OssicleError
from ..core.experiment import Experiment, TrainingConfig
from ..experiment.check import CheckedExperiment, compose, stages_of
from ..experiment.output_paths import check_folder
from ..experiment.run import STORE
from ..report.formats import SPACE, duration
from ..training.precision import has_bf16
from .subprocess_measure import dry_run_stage, measured

CLIPS = 2
"""Clips in each step."""
STEPS = 2
"""Default number of steps of each training. The first one only warms up."""


@dataclass(frozen=True)
class DryRunStage:
    """The measurements of the short training of a stage.

    Attributes:
        seconds: duration of the stage, including the stages that it needs and that did not exist
        step_seconds: mean duration of the steps after the first
        bytes: largest growth of the memory of its process
        loss: loss after the last step
    """

    name: str
    seconds: float
    step_seconds: float
    bytes: int
    loss: float


@dataclass(frozen=True)
class DryRun:
    """The measurements of the short trainings of an experiment.

    Attributes:
        clip_seconds: length of the clips
        folder: the folder with everything that was made; None if it was deleted
        in_fp32: whether trainings in bf16 ran in fp32, because this processor has no bf16 arithmetic
    """

    name: str
    steps: int
    clip_seconds: float
    stages: Sequence[DryRunStage]
    folder: Path | None
    in_fp32: bool = False


def dry_run(
    experiment: str | Path,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    steps: int = STEPS,
    on_stage: Callable[[str], None] = lambda name: None,
) -> DryRun:
    """Run every training of an experiment for a few steps. Its corpora may be missing.

    Args:
        experiment: path of its YAML
        overrides: `dotted.path=VALUE`, merged into the YAML
        out: a folder for everything that is made; a temporary folder when None
        steps: steps of each training, at least 2
        on_stage: called with the name of each stage before it runs

    Raises:
        ConfigError: if the experiment is invalid, regardless of its corpora
        OssicleError: if a training fails, or `out` is not a folder
    """
    if steps < 2:
        raise OssicleError(f"`--steps` must be at least 2, because the first step only warms up, but is {steps}")
    if out is not None:
        check_folder("--out", Path(out))
    checked = compose(Path(experiment), overrides)
    seconds = max(config.crop_seconds for config in _trainings(checked.experiment))
    with _folder(out) as folder:
        short = shortened(checked, folder / "corpora", steps=steps, seconds=seconds)
        resolved = folder / "experiment.yaml"
        resolved.write_text(resolved_yaml(short))
        found = []
        for stage in stages_of(short):
            if stage.training_config is not None:
                on_stage(stage.name)
                order = {"experiment": str(resolved), "store": str(folder / STORE), "stage": stage.name}
                found.append(DryRunStage(name=stage.name, **measured(dry_run_stage, order)))
    in_fp32 = not has_bf16() and any(config.precision == "bf16" for config in _trainings(checked.experiment))
    return DryRun(checked.experiment.name, steps, seconds, found, Path(out) if out else None, in_fp32)


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        yield Path(out).absolute()
        return
    with TemporaryDirectory(prefix="ossicle-dry-run-") as folder:
        yield Path(folder)


def shortened(checked: CheckedExperiment, folder: Path, *, steps: int, seconds: float) -> Experiment:
    """Return the experiment with synthetic corpora and short trainings.

    Args:
        folder: the folder for the synthetic corpora
        seconds: length of their clips
    """
    synthetic = checked.plugins.catalog.get("corpus", "synthetic")
    corpora = Corpora(Silent())

    def change(value: Any) -> Any:
        if isinstance(value, PartChoice) and value.kind == "corpus":
            path, several = folder / checked.experiment.corpus_display_name(value), _is_multi_label(value, corpora)
            return PartChoice(synthetic, SyntheticConfig(path=path, seconds=seconds, multi_label=several))
        if isinstance(value, TrainingConfig):
            short = value.shortened(steps=steps, clips=CLIPS)
            return short if has_bf16() else short.model_copy(update={"precision": "fp32"})
        return value.for_dry_run() if isinstance(value, Config) else value

    changed = _changed(checked.experiment, change)
    assert isinstance(changed, Experiment)
    return changed


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to a configuration and, recursively, to everything inside."""
    value = change(value)
    if isinstance(value, PartChoice):
        return replace(value, config=_changed(value.config, change))
    if isinstance(value, Config):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return value.model_copy(update={name: _changed(item, change) for name, item in fields.items()})
    if isinstance(value, tuple):
        return tuple(_changed(item, change) for item in value)
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    return value


def _trainings(experiment: Experiment) -> list[TrainingConfig]:
    found: list[TrainingConfig] = []

    def note(value: Any) -> Any:
        if isinstance(value, TrainingConfig):
            found.append(value)
        return value

    _changed(experiment, note)
    return found


def _is_multi_label(choice: PartChoice, corpora: Corpora) -> bool:
    """Whether the clips of a corpus have several labels; False if that is unknown."""
    corpus = corpora.corpus(choice)
    stated = getattr(corpus, "multi_label", None)
    if isinstance(stated, bool):
        return stated
    try:
        return corpus.is_ready and not corpus.problems() and corpora.manifest(choice).multi_label
    except CorpusError:
        return False


def print_dry_run(found: DryRun, console: Console) -> None:
    """Print a table of the trainings."""
    table = Table(
        title=Text(
            f"{found.name}: {found.steps} steps of {CLIPS} clips of {found.clip_seconds:g}{SPACE}s each",
            "bold",
        ),
        title_justify="left",
    )
    table.add_column("stage")
    for heading in ("step", "peak memory", "loss", "total"):
        table.add_column(heading, justify="right")
    for stage in found.stages:
        step, memory = f"{stage.step_seconds:.3g}{SPACE}s", f"{stage.bytes / 2**30:.2f}{SPACE}GiB"
        table.add_row(Text(stage.name), step, memory, f"{stage.loss:.3f}", duration(stage.seconds))
    console.print(table)
    kept = "nothing is kept" if found.folder is None else f"everything is kept in {found.folder}"
    precision = "; all in fp32, because this processor has no bf16 arithmetic" if found.in_fp32 else ""
    note = f"memory: largest growth of the process of each training; {kept}{precision}"
    console.print(Text(note, "dim"), soft_wrap=True)
