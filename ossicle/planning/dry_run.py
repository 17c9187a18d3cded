"""Try an experiment out: a few optimiser steps of every training at its full size, on synthetic clips.

Notable choices: the experiment is changed as a whole, every corpus for a synthetic one and every `TrainingConfig` for a
short one, so that a stranger's parts are tried like our own; each training runs in a process of its own, whose memory
nothing else fills. Stages that no training waits for are left out.
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
from ..core.stages import training_of
from ..experiment.check import CheckedExperiment, compose, stages_of
from ..experiment.output_paths import check_folder
from ..experiment.run import STORE
from ..report.formats import SPACE, duration
from ..training.precision import has_bf16
from .subprocess_measure import measured, rehearsal

CLIPS = 2
"""In each step."""
STEPS = 2
"""Of each training, unless another number is asked for; fewer would only warm up."""


@dataclass(frozen=True)
class RehearsedStage:
    """How the short training of a stage went.

    Attributes:
        seconds: of the whole stage, with what it waits for and is not made yet
        step_seconds: of a step after the first
        bytes: by how much its process grew at most
        loss: after the last step
    """

    name: str
    seconds: float
    step_seconds: float
    bytes: int
    loss: float


@dataclass(frozen=True)
class Rehearsal:
    """How the short trainings of an experiment went.

    Attributes:
        clip_seconds: length of the clips
        folder: where everything lies that was made; None if it is gone
        in_fp32: whether what asks for bf16 was tried in fp32, for this processor has no bf16 arithmetic
    """

    name: str
    steps: int
    clip_seconds: float
    stages: Sequence[RehearsedStage]
    folder: Path | None
    in_fp32: bool = False


def rehearse(
    experiment: str | Path,
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    steps: int = STEPS,
    on_stage: Callable[[str], None] = lambda name: None,
) -> Rehearsal:
    """Try every training of an experiment; its corpora may be missing.

    Args:
        experiment: path of its YAML
        overrides: `dotted.path=VALUE`, laid over the YAML
        out: keeps what is made; nothing is kept when None
        steps: of each training, two at least
        on_stage: told of every stage before it is tried

    Raises:
        ConfigError: if the experiment cannot run as written, whatever its corpora
        OssicleError: if a training fails, or `out` is no folder
    """
    if steps < 2:
        raise OssicleError(
            f"a dry run takes two steps at least, for the first one warms up, but {steps} were asked for"
        )
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
            if training_of(stage) is not None:
                on_stage(stage.name)
                order = {"experiment": str(resolved), "store": str(folder / STORE), "stage": stage.name}
                found.append(RehearsedStage(name=stage.name, **measured(rehearsal, order)))
    in_fp32 = not has_bf16() and any(config.precision == "bf16" for config in _trainings(checked.experiment))
    return Rehearsal(checked.experiment.name, steps, seconds, found, Path(out) if out else None, in_fp32)


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        yield Path(out).absolute()
        return
    with TemporaryDirectory(prefix="ossicle-dry-run-") as folder:
        yield Path(folder)


def shortened(checked: CheckedExperiment, folder: Path, *, steps: int, seconds: float) -> Experiment:
    """The same experiment on synthetic corpora, with every training cut short.

    Args:
        folder: where synthetic corpora are to lie
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
    """A configuration with `change` made to it and to everything inside."""
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
    """Whether the clips of a corpus carry several labels; not if that cannot be told."""
    corpus = corpora.corpus(choice)
    stated = getattr(corpus, "multi_label", None)
    if isinstance(stated, bool):
        return stated
    try:
        return corpus.is_ready and not corpus.problems() and corpora.manifest(choice).multi_label
    except CorpusError:
        return False


def print_rehearsal(rehearsal: Rehearsal, console: Console) -> None:
    """Print a table of the trainings."""
    table = Table(
        title=Text(
            f"{rehearsal.name}: {rehearsal.steps} steps of {CLIPS} clips of {rehearsal.clip_seconds:g}{SPACE}s each",
            "bold",
        ),
        title_justify="left",
    )
    table.add_column("stage")
    for heading in ("a step", "peak memory", "loss", "in all"):
        table.add_column(heading, justify="right")
    for stage in rehearsal.stages:
        step, memory = f"{stage.step_seconds:.3g}{SPACE}s", f"{stage.bytes / 2**30:.2f}{SPACE}GiB"
        table.add_row(Text(stage.name), step, memory, f"{stage.loss:.3f}", duration(stage.seconds))
    console.print(table)
    kept = "nothing was kept" if rehearsal.folder is None else f"kept in {rehearsal.folder}"
    if rehearsal.in_fp32:
        kept += "; in fp32 throughout, for this processor has no bf16 arithmetic"
    console.print(Text(f"memory: by how much the process of each training grew at most; {kept}", "dim"), soft_wrap=True)
