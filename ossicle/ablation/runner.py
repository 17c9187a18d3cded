"""Run an ablation: all its cells over one store, some at a time, until each is done or has failed.

Notable choices: the store says what is done, so that the same command goes on after any interruption; what several
cells need is made by one of them; a failed cell is told and the others go on; what a cell prints goes to its own log.
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
"""Seconds between two looks at the running cells."""


@dataclass(frozen=True)
class Options:
    """How an ablation is run.

    Attributes:
        out: folder for runs, and for the store of artifacts that they share
        jobs: how many cells run at once
        fail_fast: whether the first failure ends all
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
    """Show what an ablation takes and, unless it is a dry run, run it and compare its variants.

    Args:
        overrides: as `load_study` takes them
        calibrate: whether to measure a few steps of every training that is still to be done

    Raises:
        ConfigError: if the ablation, or one of its cells, cannot run as written
        Interrupted: if it was asked to stop; the same call goes on from there
        OssicleError: if there can be no folder for runs
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
    """Say what the cells that are done allow to say, and write the report."""
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
    """Take SIGTERM for Ctrl-C, inside the block."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Cells:
    """Cells that wait, those that run, and how they end."""

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
            Interrupted: if it was asked to stop
        """
        try:
            while self._waiting or self._running:
                self._take_in()
                if self._options.fail_fast and self._record.count(FAILED):
                    self._stop()
                    return
                self._start()
                self._watch.going_on([cell for cell, _ in self._running])
                time.sleep(TICK)
        except KeyboardInterrupt:
            self._stop()
            done = f"{self._record.count(DONE)} of {len(self._record.cells)} cells are done"
            raise Interrupted(f"stopped; {done}, and what the others have made is kept") from None
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

    def _take_in(self) -> None:
        """Note what is over."""
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
        """Ask all running cells to stop, and wait until they have kept what is needed to go on."""
        self._stopping = True
        for _, job in self._running:
            job.cancel()
        if self._running:
            self._watch.note("stopping; the running cells keep what they have")
        while self._running:
            self._take_in()
            time.sleep(TICK)

    def _outcome(self, job: Job) -> dict[str, Any]:
        try:
            outcome: dict[str, Any] = job.result()
        except OssicleError as error:
            # A process that had not begun yet knows no other way to stop than to end.
            if self._stopping:
                return {"state": WAITING, "error": None, "seconds": 0.0}
            return {"state": FAILED, "error": str(error), "seconds": 0.0}
        return outcome
