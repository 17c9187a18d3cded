"""The scores of runs and ablations in one table, written as text for people or for programs.

Notable choices:

- An encoder has one row for each metric, in the view with the best score on its validation clips.
- Only settings that differ get a column: axes and seeds of an ablation, and the settings in which plain runs differ.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.errors import ArtifactError
from ..core.store import RUN
from ..report.formats import interval, percent
from ..report.record import ProbeScore, RunRecord, titled
from ..report.verdict import best_view, by_question
from .record import ABLATION, DONE, read_ablation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Format = Literal["csv", "markdown", "latex", "json"]
Setting = str | int | float | bool | None
NO_SHARES = ("d_prime",)
"""Measures that are not shares, so they are not printed as percentages."""
FIGURES = ("value", "95 %", "clips")
"""Columns of numbers."""
_IGNORED = ("name",)


@dataclass(frozen=True)
class Row:
    """One figure of one encoder of one run.

    Attributes:
        differs: column to the setting by which this run differs from others
        value: the figure on the test clips; shares are in [0, 1]
        low, high: 95 % interval over clips; None if it was not computed
    """

    run: str
    differs: Mapping[str, Setting]
    encoder: str
    task: str
    corpus: str
    metric: str
    view: str
    value: float
    low: float | None
    high: float | None
    clips: int


@dataclass(frozen=True)
class Results:
    """A table of figures.

    Attributes:
        columns: names of the settings that differ, in order
        rows: in the order of runs, then of questions, then of encoders
        notes: messages about missing figures
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _Run:
    name: str
    record: RunRecord
    differs: Mapping[str, Setting] = field(default_factory=dict)
    is_cell: bool = False


def gather(folders: Sequence[Path]) -> Results:
    """Read runs and the finished cells of ablations.

    Raises:
        ArtifactError: if a folder is neither a run nor an ablation, or is damaged
    """
    notes: list[str] = []
    runs = [run for folder in folders for run in _runs(folder, notes, named=len(folders) > 1)]
    plain = [run for run in runs if not run.is_cell]
    settings = dict(zip([id(run) for run in plain], _differences([run.record for run in plain]), strict=True))
    columns: dict[str, None] = {}
    rows: list[Row] = []
    for run in runs:
        differs = {**run.differs, **settings.get(id(run), {})}
        columns |= dict.fromkeys(differs)
        rows += _rows(run, differs)
        notes += [f"{run.name}: {problem}" for problem in run.record.problems]
    return Results(list(columns), rows, notes)


def _runs(folder: Path, notes: list[str], *, named: bool) -> Iterator[_Run]:
    if not (folder / ABLATION).is_file():
        if not (folder / RUN).is_file():
            raise ArtifactError(f"{folder} is neither a run nor an ablation: it holds no {RUN} and no {ABLATION}")
        yield _Run(str(folder), RunRecord.read(folder))
        return
    found = read_ablation(folder)
    values = {variant["name"]: variant["values"] for variant in found["variants"]}
    for cell in found["cells"]:
        title = f"{cell['variant']}, seed {cell['seed']}"
        if cell["state"] != DONE:
            why = f"failed: {cell['error']}" if cell["error"] else "is not done"
            notes.append(f"{folder}: {title} {why}")
            continue
        differs = {**({"ablation": found["name"]} if named else {}), **values[cell["variant"]], "seed": cell["seed"]}
        yield _Run(str(folder / cell["run"]), RunRecord.read(folder / cell["run"]), differs, is_cell=True)


def _differences(records: Sequence[RunRecord]) -> list[dict[str, Setting]]:
    """Return the settings of every run in which not all runs agree, by dotted path."""
    settings = [dict(_leaves(_configuration(record))) for record in records]
    paths = dict.fromkeys(path for one in settings for path in one)
    differing = [
        path for path in paths if path not in _IGNORED and len({json.dumps(one.get(path)) for one in settings}) > 1
    ]
    return [{path: one.get(path) for path in differing} for one in settings]


def _configuration(record: RunRecord) -> Any:
    from ..core.config_files.documents import parse_document

    if not record.config:
        return {}
    return parse_document(record.config, "experiment.yaml", record.folder).tree


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Setting]]:
    if isinstance(tree, dict | list):
        for key, below in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(below, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def _rows(run: _Run, differs: Mapping[str, Setting]) -> Iterator[Row]:
    for subjects in by_question(run.record.scores).values():
        for subject, scores in subjects.items():
            best = best_view(scores)
            # Without validation scores no view can be chosen, because test clips must not choose it.
            for score in [best] if best else scores:
                for metric, value, low, high in _figures(score):
                    yield Row(
                        run=run.name,
                        differs=differs,
                        encoder=titled(subject, score.role),
                        task=score.task,
                        corpus=score.corpus,
                        metric=metric,
                        view=score.view,
                        value=value,
                        low=low,
                        high=high,
                        clips=score.clips,
                    )


def _figures(score: ProbeScore) -> Iterator[tuple[str, float, float | None, float | None]]:
    yield score.metric, score.value, _finite(score.low), _finite(score.high)
    for name, value in score.others.items():
        yield name, value, None, None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def print_results(results: Results, console: Console) -> None:
    """Print a table for every metric."""
    from rich.text import Text

    questions: dict[str, list[Row]] = {}
    for row in results.rows:
        questions.setdefault(f"{row.task}/{row.corpus}/{row.metric}", []).append(row)
    for question, rows in questions.items():
        console.print(Text(question, "bold"))
        console.print(_table(Results(results.columns, rows)))


def _table(results: Results) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    header, lines = _for_people(results)
    short = _endings(results.columns)
    shown = [number for number, name in enumerate(header) if name not in ("task", "corpus", "metric")]
    for name in (header[number] for number in shown):
        is_figure = name in FIGURES
        justify: Literal["left", "right"] = "right" if is_figure else "left"
        table.add_column(Text(short.get(name, name)), justify=justify, no_wrap=is_figure, overflow="fold")
    for line in lines:
        table.add_row(*(Text(line[number]) for number in shown))
    return table


def _endings(paths: Sequence[str]) -> dict[str, str]:
    """Map each dotted path to its shortest unique ending."""

    def ending(path: str) -> str:
        parts = path.split(".")
        endings = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
        return next(
            short
            for short in endings
            if sum(f".{other}".endswith(f".{short}") for other in paths) == 1 or short == path
        )

    return {path: ending(path) for path in paths}


def written(results: Results, form: Format) -> str:
    """Write the table as text. Only the formats for people, Markdown and LaTeX, round the figures."""
    writers: Mapping[Format, Callable[[Results], str]] = {
        "csv": _csv,
        "json": _json,
        "markdown": _markdown,
        "latex": _latex,
    }
    return writers[form](results)


def _plain(results: Results) -> Iterator[dict[str, Any]]:
    for row in results.rows:
        yield {
            "run": row.run,
            **{name: row.differs.get(name) for name in results.columns},
            "encoder": row.encoder,
            "task": row.task,
            "corpus": row.corpus,
            "metric": row.metric,
            "view": row.view,
            "value": _finite(row.value),
            "low": row.low,
            "high": row.high,
            "clips": row.clips,
        }


def _json(results: Results) -> str:
    return json.dumps(list(_plain(results)), indent=2, ensure_ascii=False) + "\n"


def _csv(results: Results) -> str:
    file = io.StringIO()
    names = ["run", *results.columns, "encoder", "task", "corpus", "metric", "view", "value", "low", "high", "clips"]
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_plain(results))
    return file.getvalue()


def _for_people(results: Results) -> tuple[list[str], list[list[str]]]:
    """Return header and lines. The run has a column only if the settings do not identify it."""
    runs = dict.fromkeys(row.run for row in results.rows)
    settings = {run: next(row.differs for row in results.rows if row.run == run) for run in runs}
    unique = len({json.dumps(dict(differs), sort_keys=True) for differs in settings.values()}) == len(runs)
    named = [] if unique and results.columns else ["run"]
    header = [*named, *results.columns, "encoder", "task", "corpus", "metric", "view", "value", "95 %", "clips"]
    return header, [_line(row, results.columns, named=bool(named)) for row in results.rows]


def _line(row: Row, columns: Sequence[str], *, named: bool) -> list[str]:
    settings = [_setting(row.differs.get(name)) for name in columns]
    value = f"{row.value:.2f}" if row.metric in NO_SHARES else percent(row.value)
    between = "" if row.low is None or row.high is None else interval(row.low, row.high)
    about = [row.encoder, row.task, row.corpus, row.metric, row.view, value, between, f"{row.clips}"]
    return [*([row.run] if named else []), *settings, *about]


def _setting(value: Setting) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _markdown(results: Results) -> str:
    header, lines = _for_people(results)
    rules = [":--" if name not in FIGURES else "--:" for name in header]
    return "".join(
        f"| {' | '.join(_escaped(cell, _MARKDOWN) for cell in line)} |\n" for line in [header, rules, *lines]
    )


def _latex(results: Results) -> str:
    """Write a `tabular` with the rules of the package booktabs."""
    header, lines = _for_people(results)
    columns = "".join("r" if name in FIGURES else "l" for name in header)

    def row(cells: Sequence[str]) -> str:
        return " & ".join(_escaped(cell, _LATEX) for cell in cells) + r" \\"

    middle = [row(header), r"\midrule", *map(row, lines)]
    return (
        "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *middle, r"\bottomrule", r"\end{tabular}"]) + "\n"
    )


_MARKDOWN = {"|": r"\|", "\n": " "}
_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "\N{NO-BREAK SPACE}": "~",
}


def _escaped(text: str, signs: Mapping[str, str]) -> str:
    return "".join(signs.get(sign, sign) for sign in text)
