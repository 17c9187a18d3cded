"""An ablation on the terminal: its cells before anything runs, what happens while they do, and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..core.store import Store
from ..report.formats import SPACE, count, duration
from .cells import CheckedCell, shared
from .expectation import Expectation
from .judging import changed
from .record import DONE, FAILED, LOG, AblationRecord, CellRecord
from .study import Study

TAIL = 4096
"""Bytes at the end of a log that are looked at."""


def print_plan(
    study: Study,
    cells: Sequence[CheckedCell],
    record: AblationRecord,
    expected: Expectation,
    store: Store,
    console: Console,
) -> None:
    """Print the cells with their states, which encoder is judged, what they share, and how long the rest may take."""
    console.print(_table(study, cells, record, store))
    console.print(Text(_judged(cells), "dim"), soft_wrap=True)
    for text in _passed_by(study, cells):
        console.print(Text("warning: ", "bold yellow").append(text, "default"), soft_wrap=True)
    console.print()
    needed = shared(cells)
    to_make = {key for cell in cells for key in cell.to_make(store)}
    several = sum(number > 1 for number in needed.values())
    console.print(
        Text(
            f"{count(len(cells), 'cell')}, {record.count(DONE)} done; {count(len(needed), 'stage')}, of which "
            f"{several} are shared by several cells and {len(needed) - len(to_make)} are done",
            "bold",
        ),
        soft_wrap=True,
    )
    console.print(Text(_time(expected), "dim"), soft_wrap=True)


def _table(study: Study, cells: Sequence[CheckedCell], record: AblationRecord, store: Store) -> Table:
    """A row for every variant, a column for every seed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    title = Text(study.config.name, "bold").append(f"  {study.config.compare.metric}", "not bold dim")
    table.title, table.title_justify = title, "left"
    table.add_column("variant", overflow="fold")
    for seed in study.config.seeds:
        table.add_column(f"seed {seed}", justify="right")
    by_place = {(cell.cell.variant.name, cell.cell.seed): cell for cell in cells}
    for variant in study.variants:
        name = Text(variant.name)
        roles = ["baseline"] if variant.name == study.config.compare.baseline else []
        roles += ["control"] if variant.control else []
        name.append(f"  {', '.join(roles)}" if roles else "", "dim")
        found = [by_place.get((variant.name, seed)) for seed in study.config.seeds]
        table.add_row(name, *(Text("–", "dim") if cell is None else _state(cell, record, store) for cell in found))
    return table


def _judged(cells: Sequence[CheckedCell]) -> str:
    """Which encoder is judged, of which variants where they differ."""
    variants: dict[str, dict[str, None]] = {}
    for cell in cells:
        variants.setdefault(cell.subject or "no encoder", {})[cell.cell.variant.name] = None
    if len(variants) == 1:
        return f"judged: {next(iter(variants))}"
    return "judged: " + "; ".join(f"{subject} of {_quoted(names)}" for subject, names in variants.items())


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _passed_by(study: Study, cells: Sequence[CheckedCell]) -> Iterator[str]:
    """Sentences on variants whose own changes the judged encoder meets in its teacher at most."""
    compare = study.config.compare
    by_place = {(cell.cell.variant.name, cell.cell.seed): cell for cell in cells}
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for cell in cells:
        baseline = by_place.get((compare.baseline, cell.cell.seed))
        if compare.encoder is not None or baseline is None or baseline.subject != cell.subject:
            continue
        others = changed(cell.checked.stages, baseline.checked.stages)
        if others and cell.subject not in others:
            found.setdefault((cell.subject, *others), {})[cell.cell.variant.name] = None
    for (subject, *others), names in found.items():
        yield (
            f"{_quoted(names)} and `{compare.baseline}` differ in {', '.join(others)}, but "
            f"{subject} is judged: say `encoder: {others[0]}` in `compare`, or `encoder: {subject}` if that is meant"
        )


def _state(cell: CheckedCell, record: AblationRecord, store: Store) -> Text:
    if record.cells[cell.cell.name].state == DONE:
        return Text("done", "green")
    left = len(cell.to_make(store))
    if left == 0:
        return Text("report to write", "yellow")
    made = len(cell.by_key) - left
    return Text(f"{made} of {len(cell.by_key)} stages done" if made else "to do", "yellow")


def _time(expected: Expectation) -> str:
    if not expected.seconds:
        return "nothing is left to make"
    unknown = f"{count(expected.unknown, 'stage')} of which none like it is made yet"
    unknown += "" if expected.measured else "; `--calibrate` measures a few steps of every training"
    if expected.unknown == len(expected.seconds):
        return f"expected time unknown: {unknown}"
    how = "trainings as measured, others" if expected.measured else "stages"
    text = f"expected: {duration(expected.known)} of work, one job at a time, {how} as those of the same kind took"
    return f"{text}; and {unknown}" if expected.unknown else text


class Watch:
    """Tells of cells that start, go on and end: live in a terminal, elsewhere in lines."""

    def __init__(self, console: Console, record: AblationRecord) -> None:
        self._console = console
        self._record = record
        self._live = Live(console=console, transient=True, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> Watch:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def started(self, cell: CheckedCell) -> None:
        self._console.print(Text("• ", "bold").append(cell.cell.title, "not bold"), soft_wrap=True)

    def over(self, cell: CheckedCell, how: CellRecord) -> None:
        """Say how a cell ended."""
        line = Text("  ").append(cell.cell.title)
        if how.state == DONE:
            line.append(" done", "green").append(f" in {duration(how.seconds)}")
        elif how.state == FAILED:
            line.append(" failed", "red").append(f" at {how.stage}" if how.stage else "").append(f": {how.error}")
        else:
            line.append(" stopped", "yellow")
        ended = self._record.count(DONE) + self._record.count(FAILED)
        self._console.print(line.append(f"  ({ended} of {len(self._record.cells)})", "dim"), soft_wrap=True)

    def going_on(self, running: Sequence[CheckedCell]) -> None:
        """Show the last line of every running cell's log."""
        if self._live is None:
            return
        grid = Table.grid(padding=(0, 2))
        for cell in running:
            stage, line = progress(self._record.run_folder(cell.cell.name) / LOG, cell)
            grid.add_row(Text(cell.cell.title), Text(stage or "starting"), Text(line, "dim"))
        self._live.update(grid)


def progress(log: Path, cell: CheckedCell) -> tuple[str | None, str]:
    """The stage that a cell is making, as its log tells, and the log's last line if that says more."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return None, ""
    names = {f"• {stage.name}": stage.name for stage in cell.by_key.values()}
    stage = next((names[line] for line in reversed(lines) if line in names), None)
    last = lines[-1] if lines else ""
    return stage, "" if last in names else last


def print_failures(record: AblationRecord, console: Console) -> None:
    """Print every failed cell with its error and where its log lies."""
    failed: Mapping[str, CellRecord] = {name: cell for name, cell in record.cells.items() if cell.state == FAILED}
    for name, cell in failed.items():
        line = Text(f"{cell.variant}, seed {cell.seed}", "bold").append(" failed", "red")
        line.append(f" at {cell.stage}" if cell.stage else "", "not bold").append(f": {cell.error}", "not bold")
        console.print(line, soft_wrap=True)
        console.print(Text(f"  log: {record.run_folder(name) / LOG}", "dim"), soft_wrap=True)
    if failed:
        again = "the same command tries them again, and goes on with what they have made"
        console.print(Text(f"{count(len(failed), 'cell')} failed;{SPACE}{again}", "bold yellow"), soft_wrap=True)
