"""The record of an ablation, `ablation.json`: its variants and the outcome of each cell. Needs no torch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ..core.errors import ArtifactError
from ..core.stage_runner import versions
from ..core.store import RUN
from ..experiment.command_line import command_line
from .cells import CheckedCell
from .study import Study

ABLATION = "ablation.json"
CELLS = "cells"
REPORT = "report.html"
LOG = "log.txt"
State = Literal["done", "failed", "waiting"]
DONE: State = "done"
FAILED: State = "failed"
WAITING: State = "waiting"


@dataclass
class CellRecord:
    """The outcome of a cell.

    Attributes:
        run: folder of the run, relative to the folder of the ablation
        error: message of the failure, if any
        stage: the stage that failed, if any
        seconds: wall-clock time of the run
    """

    variant: str
    seed: int
    run: str
    state: State = WAITING
    error: str | None = None
    stage: str | None = None
    seconds: float = 0.0


class AblationRecord:
    """Writer of `ablation.json`. Continues the record that an earlier command wrote for the same ablation.

    Attributes:
        folder: folder of the ablation
        cells: cell name to outcome
    """

    def __init__(self, folder: Path, study: Study, *, jobs: int) -> None:
        self.folder = folder
        self.cells = {
            cell.name: CellRecord(cell.variant.name, cell.seed, f"{CELLS}/{cell.name}") for cell in study.cells
        }
        self._study = study
        self._jobs = jobs
        self._clock = time.monotonic()
        earlier = _earlier(folder)
        self._started = str(earlier.get("started") or _now())
        self._seconds = float(earlier.get("seconds") or 0.0)
        known = {entry.get("run"): entry for entry in earlier.get("cells") or []}
        self._before: dict[str, Mapping[str, Any]] = {
            name: known.get(cell.run, {}) for name, cell in self.cells.items()
        }

    def run_folder(self, name: str) -> Path:
        """Return the folder of the run of a cell."""
        return self.folder / self.cells[name].run

    def found_done(self, name: str) -> None:
        """Record that an earlier command finished a cell."""
        self.cells[name].state = DONE
        self.cells[name].seconds = self._spent(name)

    def over(self, name: str, *, state: State, error: str | None, seconds: float, stage: str | None = None) -> None:
        """Record the outcome of a cell and write `ablation.json`."""
        cell = self.cells[name]
        interrupted = self._before[name].get("state") == WAITING
        cell.state, cell.error, cell.stage = state, error, stage
        cell.seconds = round(seconds + (self._spent(name) if interrupted else 0.0), 1)
        self.write()

    def _spent(self, name: str) -> float:
        """Return the seconds that an earlier command spent on a cell."""
        return float(self._before[name].get("seconds") or 0.0)

    def count(self, state: State) -> int:
        """Count the cells in a state."""
        return sum(cell.state == state for cell in self.cells.values())

    def write(self) -> None:
        """Replace `ablation.json` atomically, so that readers never see a partial file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{ABLATION}.draft"
        draft.write_text(json.dumps(self._plain(), indent=2, ensure_ascii=False))
        os.replace(draft, self.folder / ABLATION)

    def _plain(self) -> dict[str, Any]:
        study, compare = self._study, self._study.config.compare
        return {
            "name": study.config.name,
            "command": command_line(),
            "base": study.base_text,
            "baseline": compare.baseline,
            "metric": compare.metric,
            "secondary": list(compare.secondary),
            "encoder": compare.encoder,
            "seeds": list(study.config.seeds),
            "axes": {axis: list(names) for axis, names in study.axes.items()},
            "variants": [
                {
                    "name": variant.name,
                    "control": variant.control,
                    "values": dict(variant.values),
                    "overrides": variant.overrides,
                    "patch": {path: node.plain() for path, node in variant.patch},
                }
                for variant in study.variants
            ],
            "cells": [asdict(cell) for cell in self.cells.values()],
            "jobs": self._jobs,
            "started": self._started,
            "finished": None if self.count(WAITING) else _now(),
            "seconds": round(self._seconds + time.monotonic() - self._clock, 1),
            "versions": versions(),
            "machine": self._machine(),
        }

    def _machine(self) -> Mapping[str, Any]:
        """Return the machine that the first finished cell recorded."""
        for name, cell in self.cells.items():
            if cell.state == DONE:
                found: Mapping[str, Any] = _json(self.run_folder(name) / RUN).get("machine") or {}
                return found
        return {}


def is_done(cell: CheckedCell, folder: Path) -> bool:
    """Check whether the run of a cell is complete and belongs to the same experiment."""
    stages: Sequence[Mapping[str, Any]] = _json(folder / RUN).get("stages") or []
    if [stage.get("key") for stage in stages] != [one.key for one in cell.stages]:
        return False
    return (folder / REPORT).is_file() and all(one.artifact is not None for one in cell.stages)


def read_ablation(folder: Path) -> dict[str, Any]:
    """Read `ablation.json`.

    Raises:
        ArtifactError: if it is missing or damaged
    """
    path = folder / ABLATION
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError:
        raise ArtifactError(f"{folder} is not an ablation: it holds no {ABLATION}") from None
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}; run the ablation again to rewrite it") from None
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} is damaged: it is not a mapping; run the ablation again to rewrite it")
    return found


def _earlier(folder: Path) -> dict[str, Any]:
    return _json(folder / ABLATION)


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or return an empty one if the file is missing or invalid."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
