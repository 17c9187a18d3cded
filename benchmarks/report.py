"""Tables of the measurements: in the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .growing import Growth
from .measuring import Measured, Table
from .protocol import Spread
from .seats import THREADS
from .targets import TARGETS

COLUMNS: Final = ("", "CPU s", "wall s", "audio-s/s", "times faster", "GFLOP", "of GEMM rate", "memory", "differs")
SHOWN: Final = tuple(column for column in COLUMNS if column not in ("wall s", "GFLOP"))
"""The columns that fit into a terminal."""

READING: Final = f"""\
Contenders take turns, each in a separate process with {THREADS} thread, on the same clips and with the same weights. \
*CPU s* is the processor time of one run, summed over threads (the median over rounds). *audio-s/s* is the length of \
the audio divided by it, or by *wall s* on a GPU. *Times faster* is the speed relative to the first line, computed \
within each round: the median [lowest–highest]. *Of GEMM rate* is the share of the rate that bare matrix products of \
the same shapes reached in the same rounds. *Memory* is the peak memory of the process without its imports. \
*Differs* is the difference of the output from Ossicle's in fp32, as a share of the norm (for tokens, the share of \
different tokens). Contenders that differ by more than a thousandth in fp32 are not timed."""


def machine() -> dict[str, str]:
    """Describe the date, the machine and the versions of a measurement."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = f"{len(names)} × {names[0]}" if names else processor
    if torch.cuda.is_available():
        processor += f", {torch.cuda.get_device_name()}"
    from .. import __version__

    return {
        "date": date.today().isoformat(),
        "machine": f"{processor}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": f"ossicle {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }


class Page:
    """Prints each table as soon as it is measured, and writes a file with all tables so far.

    Args:
        out: Markdown file; a JSON file with the figures is written beside it
        command: the command line, which the page states
    """

    def __init__(self, console: Console, out: Path | None, command: str) -> None:
        self._console, self._out, self._command = console, out, command
        self._tables: list[Table] = []
        self._growths: list[Growth] = []

    def add(self, found: Table | Growth) -> None:
        """Print a table, and write the file with all tables so far."""
        if isinstance(found, Table):
            self._tables.append(found)
            print_table(self._console, found)
        else:
            self._growths.append(found)
            print_growth(self._console, found)
        if self._out is not None:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._out.write_text(markdown(self._tables, self._command, self._growths))
            content = {
                **machine(),
                "command": self._command,
                "tables": [asdict(table) for table in self._tables],
                "growths": [asdict(growth) for growth in self._growths],
            }
            self._out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


def print_growth(console: Console, growth: Growth) -> None:
    """Print a table of the growth of one cost."""
    shown = RichTable(*growth.rows[0], title=Text(growth.title, "bold"), title_justify="left")
    for row in growth.rows:
        shown.add_row(*(Text(_figure(value)) for value in row.values()))
    console.print(shown)


def print_table(console: Console, table: Table) -> None:
    """Print the table of one work in one case."""
    shown = RichTable(title=Text(_title(table), "bold"), title_justify="left")
    for column in SHOWN:
        shown.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for name, measured in table.contenders.items():
        cells = dict(zip(COLUMNS, _row(name, measured, table), strict=True))
        shown.add_row(*(Text(cells[column]) for column in SHOWN))
    console.print(shown)
    for note in _failures(table):
        console.print(Text(note))


def markdown(tables: Sequence[Table], command: str, growths: Sequence[Growth] = ()) -> str:
    """Format all tables as a Markdown page."""
    lines = ["# Measured speed", "", f"`{command}`", ""]
    lines += [f"- {name}: {value}" for name, value in machine().items()]
    lines += ["", READING, "", *_targets(tables)]
    for table in tables:
        lines += [f"## {_title(table)}", "", _line(COLUMNS), _line(["---", *["---:"] * (len(COLUMNS) - 1)])]
        lines += [_line(_row(name, measured, table)) for name, measured in table.contenders.items()]
        lines += ["", *(f"- {name}: {measured.about}" for name, measured in table.contenders.items() if measured.about)]
        lines += [f"- {note}" for note in _failures(table)]
        lines += ["", table.remark] if table.remark else []
        lines.append("")
    for growth in growths:
        lines += [f"## {growth.title}", "", _line(list(growth.rows[0])), _line(["---:"] * len(growth.rows[0]))]
        lines += [*(_line([*map(_figure, row.values())]) for row in growth.rows), ""]
    return "\n".join(lines)


def _targets(tables: Sequence[Table]) -> list[str]:
    """Format the table of targets that were measured, with the reached values."""
    measured = [(target, target.reached(tables)) for target in TARGETS]
    rows = [
        [
            target.case.name,
            target.contender,
            f"memory of {target.against}" if target.quantity == "memory" else target.against or "the rate of GEMM",
            f"{'at most' if target.quantity == 'memory' else 'at least'} {target.required:g}",
            f"{reached:.2f}{'' if target.holds(reached) else ', missed'}",
        ]
        for target, reached in measured
        if reached is not None
    ]
    if not rows:
        return []
    head = ["work", "contender", "compared with", "required", "reached"]
    return ["## Targets", "", _line(head), _line(["---"] * len(head)), *map(_line, rows), ""]


def _failures(table: Table) -> list[str]:
    """Describe why contenders were not timed, grouped by reason."""
    reasons: dict[str, list[str]] = {}
    for name, measured in table.contenders.items():
        if measured.failure:
            reasons.setdefault(measured.failure, []).append(name)
    return [f"not timed: {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _title(table: Table) -> str:
    rates = ", ".join(f"{precision} {rate:.0f}" for precision, rate in table.rates.items())
    rounds = f"{table.rounds} round{'s' if table.rounds > 1 else ''}"
    return f"{table.name} ({rounds}{f'; bare products reach {rates} GFLOP/s' if rates else ''})"


def _row(name: str, measured: Measured, table: Table) -> list[str]:
    if measured.failure:
        return [name, "not timed", *[""] * (len(COLUMNS) - 2)]
    assert measured.cpu is not None
    assert measured.wall is not None
    seconds = measured.wall.median if torch.cuda.is_available() else measured.cpu.median
    return [
        name,
        f"{measured.cpu.median:.3g}",
        f"{measured.wall.median:.3g}",
        _speed(table.audio_seconds / seconds),
        _spread(measured.faster, "{:.2f}"),
        f"{measured.gigaflops:.3g}" if measured.gigaflops else "",
        _spread(measured.share, "{:.0%}"),
        f"{measured.memory / 2**30:.2f} GiB" if measured.memory else "",
        f"{measured.difference:.0e}" if measured.difference is not None else "",
    ]


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _speed(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}" if speed else ""


def _spread(spread: Spread | None, form: str) -> str:
    if spread is None:
        return ""
    median, lowest, highest = (form.format(value) for value in (spread.median, spread.lowest, spread.highest))
    return f"{median} [{lowest}–{highest}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
