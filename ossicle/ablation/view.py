"""An ablation on the terminal: its cells before anything runs, progress while they run, and failures."""

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
"""Bytes at the end of a log that are read."""


def print_plan(
    study: Study,
    cells: Sequence[CheckedCell],
    record: AblationRecord,
    expected: Expectation,
    store: Store,
    console: Console,
) -> None:
    """Print the states of the cells, the judged encoder, the number of shared stages, and the expected time."""
    console.print(_table(study, cells, record, store))
    console.print(Text(_judged(cells), "dim"), soft_wrap=True)
    for text in _unjudged_changes(study, cells):
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
    """Make a table with a row for every variant and a column for every seed."""
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
    """Name the judged encoder, and its variants if they differ in it."""
    variants: dict[str, dict[str, None]] = {}
    for cell in cells:
        variants.setdefault(cell.subject or "no encoder", {})[cell.cell.variant.name] = None
    if len(variants) == 1:
        return f"judged: {next(iter(variants))}"
    return "judged: " + "; ".join(f"{subject} of {_quoted(names)}" for subject, names in variants.items())


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _unjudged_changes(study: Study, cells: Sequence[CheckedCell]) -> Iterator[str]:
    """Yield warnings about variants whose changes reach the judged encoder at most through its teacher."""
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
            f"{subject} is judged: set `encoder: {others[0]}` in `compare`, or `encoder: {subject}` to confirm"
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
        return "all stages are done"
    unknown = f"{count(expected.unknown, 'stage')} without a finished stage of the same kind"
    unknown += "" if expected.measured else "; `--calibrate` measures a few steps of every training"
    if expected.unknown == len(expected.seconds):
        return f"expected time unknown: {unknown}"
    how = "measured steps of trainings and finished" if expected.measured else "finished"
    text = f"expected: {duration(expected.known)} of work with one job, from {how} stages of the same kind"
    return f"{text}; plus {unknown}" if expected.unknown else text


class Watch:
    """Reports cells that start, run and end: live in a terminal, otherwise line by line."""

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
        """Print a line that the live display does not overwrite."""
        self._console.print(Text(text), soft_wrap=True)

    def started(self, cell: CheckedCell) -> None:
        self._console.print(Text("• ", "bold").append(cell.cell.title, "not bold"), soft_wrap=True)

    def over(self, cell: CheckedCell, how: CellRecord) -> None:
        """Print the outcome of a cell."""
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
        """Show the last line of the log of every running cell."""
        if self._live is None:
            return
        grid = Table.grid(padding=(0, 2))
        for cell in running:
            stage, line = progress(self._record.run_folder(cell.cell.name) / LOG, cell)
            grid.add_row(Text(cell.cell.title), Text(stage or "starting"), Text(line, "dim"))
        self._live.update(grid)


def progress(log: Path, cell: CheckedCell) -> tuple[str | None, str]:
    """Read from a log the stage that a cell is making, and the last line unless it only names the stage."""
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
    """Print every failed cell with its error and the path of its log."""
    failed: Mapping[str, CellRecord] = {name: cell for name, cell in record.cells.items() if cell.state == FAILED}
    for name, cell in failed.items():
        line = Text(f"{cell.variant}, seed {cell.seed}", "bold").append(" failed", "red")
        line.append(f" at {cell.stage}" if cell.stage else "", "not bold").append(f": {cell.error}", "not bold")
        console.print(line, soft_wrap=True)
        console.print(Text(f"  log: {record.run_folder(name) / LOG}", "dim"), soft_wrap=True)
    if failed:
        again = "the same command retries them and reuses their finished stages"
        console.print(Text(f"{count(len(failed), 'cell')} failed;{SPACE}{again}", "bold yellow"), soft_wrap=True)
