"""Run an ablation: all its cells over one store, several at a time, until each is done or has failed.

Notable choices:

- The store determines which stages are done, so the same command continues after any interruption.
- A stage that several cells need is made by one of them.
- A failed cell is reported, and the others continue.
- The output of a cell goes to its log.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ..core.build import build
from ..core.choices import PartChoice
from ..core.config_files.experiment_loader import resolved_yaml
from ..core.errors import Interrupted, OssicleError
from ..core.plugin_loading import load_plugins
from ..core.store import Store
from ..experiment.output_paths import check_folder
from ..experiment.run import DEFAULT_OUT, STORE
from ..plugins.launcher_interface import Job, Launcher
from .cell import run_cell
from .cells import CheckedCell, check_cells
from .expectation import expectation, measure
from .order import next_cell
from .record import CELLS, DONE, FAILED, LOG, WAITING, AblationRecord, is_done
from .study import Study, load_study
from .view import Watch, print_failures, print_plan, progress

if TYPE_CHECKING:
    from rich.console import Console

    from ..core.catalog import Catalog

TICK = 0.25
"""Seconds between two polls of the running cells."""


@dataclass(frozen=True)
class Options:
    """Options of running an ablation.

    Attributes:
        out: folder for runs and for the store of artifacts that they share
        jobs: number of cells that run at once
        fail_fast: whether the first failure stops all cells
    """

    out: Path = DEFAULT_OUT
    jobs: int = 1
    fail_fast: bool = False


def ablate(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    options: Options,
    dry_run: bool = False,
    calibrate: bool = False,
    console: Console,
) -> AblationRecord:
    """Print the plan of an ablation and, unless it is a dry run, run it and compare its variants.

    Args:
        overrides: as for `load_study`
        calibrate: whether to measure a few steps of every remaining training

    Raises:
        ConfigError: if the ablation or one of its cells is invalid
        Interrupted: if it was interrupted; the same call continues from there
        OssicleError: if the folder for runs cannot be made
    """
    check_folder("--out", options.out)
    catalog = load_plugins().catalog
    study = load_study(path, overrides=overrides, catalog=catalog)
    store = Store(options.out / STORE)
    with console.status("checking every cell"):
        cells = check_cells(study, store, prepare=not dry_run)
    folder = options.out / study.config.name
    record = AblationRecord(folder, study, jobs=options.jobs)
    for cell in cells:
        if is_done(cell, record.run_folder(cell.cell.name)):
            record.found_done(cell.cell.name)
    measured = None
    if calibrate:
        with console.status("measuring") as status:
            measured = measure(cells, store, lambda name: status.update(Text(f"measuring {name}")))
    print_plan(study, cells, record, expectation(cells, store, measured), store, console)
    if not dry_run:
        _run(study, cells, record, store, options, catalog, console)
    return record


def _run(
    study: Study,
    cells: Sequence[CheckedCell],
    record: AblationRecord,
    store: Store,
    options: Options,
    catalog: Catalog,
    console: Console,
) -> None:
    record.write()
    seeds = study.config.seeds
    waiting = sorted(
        (cell for cell in cells if record.cells[cell.cell.name].state != DONE),
        key=lambda cell: seeds.index(cell.cell.seed),
    )
    if waiting:
        with _terminable(), Watch(console, record) as watch:
            launcher = _launcher(study, catalog, options, record.folder)
            _Cells(waiting, record, store, launcher, options, watch).run()
    record.write()
    print_failures(record, console)
    _compare(record, console)


def _compare(record: AblationRecord, console: Console) -> None:
    """Compare the finished cells, print the verdicts and write the report."""
    if not record.count(DONE):
        return
    from .comparison import compare
    from .report import write_ablation_report
    from .verdict_tables import print_comparison

    try:
        comparison = compare(record.folder)
        print_comparison(console, comparison)
        report = write_ablation_report(record.folder, comparison)
    except OssicleError as error:
        console.print(f"no comparison: {error}", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(f"report: {report}", highlight=False, markup=False, soft_wrap=True)


def _launcher(study: Study, catalog: Catalog, options: Options, folder: Path) -> Launcher:
    choice = study.config.launcher or PartChoice.of(catalog.get("launcher", "local"), {})
    return build(choice, Launcher, jobs=options.jobs, folder=folder)


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C inside the block."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Cells:
    """The queue of waiting cells and the running cells."""

    def __init__(
        self,
        waiting: Sequence[CheckedCell],
        record: AblationRecord,
        store: Store,
        launcher: Launcher,
        options: Options,
        watch: Watch,
    ) -> None:
        self._waiting = list(waiting)
        self._running: list[tuple[CheckedCell, Job]] = []
        self._record = record
        self._store = store
        self._launcher = launcher
        self._options = options
        self._watch = watch
        self._stopping = False

    def run(self) -> None:
        """Run all cells.

        Raises:
            Interrupted: on Ctrl-C or SIGTERM
        """
        try:
            while self._waiting or self._running:
                self._collect()
                if self._options.fail_fast and self._record.count(FAILED):
                    self._stop()
                    return
                self._start()
                self._watch.going_on([cell for cell, _ in self._running])
                time.sleep(TICK)
        except KeyboardInterrupt:
            self._stop()
            done = f"{self._record.count(DONE)} of {len(self._record.cells)} cells are done"
            raise Interrupted(f"stopped; {done}, and the progress of the others is saved") from None
        finally:
            self._launcher.close()

    def _start(self) -> None:
        while len(self._running) < self._options.jobs:
            cell = next_cell(self._waiting, [running for running, _ in self._running], self._store)
            if cell is None:
                return
            self._waiting.remove(cell)
            self._watch.started(cell)
            self._running.append((cell, self._submitted(cell)))

    def _submitted(self, cell: CheckedCell) -> Job:
        folder = self._record.run_folder(cell.cell.name)
        folder.mkdir(parents=True, exist_ok=True)
        experiment = folder / "experiment.yaml"
        experiment.write_text(resolved_yaml(cell.checked.experiment))
        places = (experiment, self._record.folder / CELLS, self._store.root, folder / LOG)
        return self._launcher.submit(cell.cell.name, run_cell, *(str(place.absolute()) for place in places))

    def _collect(self) -> None:
        """Record the outcomes of jobs that have ended."""
        for cell, job in list(self._running):
            if job.done():
                self._running.remove((cell, job))
                self._note(cell, self._outcome(job))

    def _note(self, cell: CheckedCell, outcome: dict[str, Any]) -> None:
        name = cell.cell.name
        if outcome["state"] == FAILED:
            outcome["stage"], _ = progress(self._record.run_folder(name) / LOG, cell)
        self._record.over(name, **outcome)
        self._watch.over(cell, self._record.cells[name])
        if outcome["state"] == WAITING and not self._stopping:
            self._waiting.append(cell)

    def _stop(self) -> None:
        """Interrupt all running cells and wait until they have saved the state to continue from."""
        self._stopping = True
        for _, job in self._running:
            job.cancel()
        if self._running:
            self._watch.note("stopping: the running cells save their state")
        while self._running:
            self._collect()
            time.sleep(TICK)

    def _outcome(self, job: Job) -> dict[str, Any]:
        try:
            outcome: dict[str, Any] = job.result()
        except OssicleError as error:
            # A process that is cancelled before it starts the cell ends without an outcome.
            if self._stopping:
                return {"state": WAITING, "error": None, "seconds": 0.0}
            return {"state": FAILED, "error": str(error), "seconds": 0.0}
        return outcome
