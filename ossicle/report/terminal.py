"""The outcome of a run on the terminal: tables of scores, the verdicts, and the path of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .formats import count, duration, information, interval, other, percent, points, span
from .outcome import headline
from .record import ProbeScore, RunRecord, TokenFigures, titled
from .verdict import Question, Verdict, Word, best_view, by_question, figure, final_verdicts, verdicts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BAR = 22
STYLES: dict[Word, str] = {
    "above": "green",
    "cannot tell": "yellow",
    "below": "red",
}


def print_summary(record: RunRecord, console: Console) -> None:
    """Print scores, token statistics, verdicts and warnings of a run, and the path of its report."""
    from rich.text import Text

    for question, subjects in by_question(record.scores).items():
        console.print(score_table(question, subjects, ascii_only=console.options.ascii_only))
        console.print()
    if record.tokens:
        console.print(_token_table(record.tokens))
        console.print()
    found = verdicts(record.scores)
    console.print(Text(headline(found), "bold"))
    console.print(_findings(final_verdicts(found)))
    for text in [*record.warnings, *record.problems]:
        console.print(Text("warning: ", "bold yellow").append(text, "default"))
    console.print(Text(f"{record.name}: {_stages(record)} in {duration(record.seconds)}", "dim"))
    report = record.folder / "report.html"
    if report.is_file():
        console.print(Text(f"report: {report}"), soft_wrap=True)


def bar(score: ProbeScore, low: float, high: float, *, width: int = BAR, ascii_only: bool = False) -> str:
    """Draw a score and its interval on a line of `width` characters from `low` to `high`."""
    dot, line, empty = "o- " if ascii_only else "●─ "
    edges = [edge if math.isfinite(edge) else score.value for edge in (score.low, score.high)]
    if not math.isfinite(score.value):
        return empty * width
    left, right, middle = (_place(value, low, high, width) for value in (*edges, score.value))
    cells = [line if left <= place <= right else empty for place in range(width)]
    cells[middle] = dot
    return "".join(cells)


def _place(value: float, low: float, high: float, width: int) -> int:
    share = (value - low) / (high - low) if high > low else 0.5
    return min(width - 1, max(0, round(share * (width - 1))))


def score_table(question: Question, subjects: dict[str, list[ProbeScore]], *, ascii_only: bool) -> Table:
    """Make a table of the views of every subject with their intervals.

    The caption has the further metrics and folds of the views that are compared.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    low, high = _range([score for scores in subjects.values() for score in scores])
    title = Text(f"{question}: {question.metric}", "bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("subject", "view"):
        table.add_column(name)
    for name in ("score", "95 %", "clips"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(f"{100 * low:.0f} %".ljust(BAR - 5) + f"{100 * high:.0f} %".rjust(5), no_wrap=True)
    for subject, scores in subjects.items():
        best = best_view(scores)
        for place, score in enumerate(scores):
            cells = [
                titled(subject, score.role) if place == 0 else "",
                score.view + (" *" if score is best and len(scores) > 1 else ""),
                percent(score.value),
                interval(score.low, score.high),
                f"{score.clips}",
                bar(score, low, high, ascii_only=ascii_only),
            ]
            style = "" if score is best and score.role == "iteration" else "dim"
            table.add_row(*(Text(cell, style) for cell in cells))
    table.caption = Text("\n".join(_notes(subjects)), "dim")
    table.caption_justify = "left"
    return table


def _notes(subjects: dict[str, list[ProbeScore]]) -> list[str]:
    notes = []
    if any(len(scores) > 1 for scores in subjects.values()):
        notes.append("* the view chosen on the validation clips; verdicts compare these")
    for subject, scores in subjects.items():
        best = best_view(scores)
        if best and best.role == "iteration":
            details = [other(name, value) for name, value in best.others.items()]
            if best.folds:
                details.append(f"folds {'  '.join(map(percent, best.folds.values()))}")
            notes += [f"{subject} · {best.view}: {', '.join(details)}"] if details else []
    return notes


def _findings(found: Sequence[Verdict]) -> Table:
    """List the verdicts: for each question its score, then a line for each baseline with the difference from it."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for question in dict.fromkeys(verdict.question for verdict in found):
        here = [verdict for verdict in found if verdict.question == question]
        ours = here[0].ours
        who = f"{here[0].subject} · {ours.view}" if ours else here[0].subject
        grid.add_row(*(Text(cell, "bold") for cell in (str(question), who, figure(ours))))
        for verdict in here:
            word = Text(f"  {verdict.word}", STYLES[verdict.word])
            figures = figure(verdict.theirs) if verdict.theirs else verdict.reason
            cells = [verdict.yardstick, figures, _difference(verdict)]
            grid.add_row(word, *(Text(cell) for cell in cells))
    return grid


def _difference(verdict: Verdict) -> str:
    """Format the paired difference from the baseline: `+3.2 points [0.5 to 6.0], intervals apart`."""
    parts = []
    if verdict.difference:
        found = verdict.difference
        parts.append(f"{points(found.value)} [{span(found.low, found.high)}]")
    return ", ".join([*parts, "intervals apart"] if verdict.apart else parts)


def _token_table(tokens: Sequence[TokenFigures]) -> Table:
    """Make a table of the token statistics of each tokenizer."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text("tokenizers: normalised mutual information of a token", "bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("tokens of", overflow="fold")
    for name in ("codes", "used", "perpl.", "class", "chance", "position", "column", "band"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in tokens:
        shares = [one.label_information, one.label_chance]
        shares += [one.position_information, one.column_information, one.band_information]
        cells = [titled(one.subject, one.role), one.codes, f"{one.used}", f"{one.perplexity:.1f}"]
        table.add_row(*(Text(cell) for cell in [*cells, *map(information, shares)]))
    table.caption = Text(
        "class information counts only above chance; position, column and band do not depend on the audio", "dim"
    )
    table.caption_justify = "left"
    return table


def _range(scores: Sequence[ProbeScore]) -> tuple[float, float]:
    """Choose the scale: the range of all intervals, rounded outwards to multiples of 5 %."""
    edges = [edge for score in scores for edge in (score.low, score.value, score.high) if math.isfinite(edge)]
    if not edges:
        return 0.0, 1.0
    return math.floor(min(edges) * 20) / 20, math.ceil(max(edges) * 20) / 20


def _stages(record: RunRecord) -> str:
    reused = sum(stage.reused for stage in record.stages)
    return count(len(record.stages), "stage") + (f" ({reused} reused)" if reused else "")
