"""The verdicts of an ablation as tables, for the terminal and in Markdown for a README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..report.formats import interval, percent, probability, signed, span
from .comparison import Comparison, MetricComparison, Verdict, Word
from .outcomes import Ablation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .statistics import Estimate

STYLES: Mapping[Word, str] = {"better": "green", "no gain": "yellow", "cannot tell": "yellow", "worse": "red"}
COLUMNS = ("variant", "mean", "95 %", "points", "95 %", "p", "wins", "verdict")
IN_NARROW = (0, 1, 3, 4, 5, 7)
NARROW = 100


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print a table for each metric, the outcome in words, and warnings about what could not be compared."""
    from rich.text import Text

    for found in comparison.found:
        console.print(_table(found, comparison.ablation, wide=console.width >= NARROW))
        console.print()
    console.print(Text(comparison.headline, "bold"))
    for text in comparison.problems:
        console.print(Text("warning: ", "bold yellow").append(text, "default"))


def _table(found: MetricComparison, ablation: Ablation, *, wide: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{found.question}: {found.measure}", "bold")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    shown: Sequence[int] = range(len(COLUMNS)) if wide else IN_NARROW
    for place in shown:
        if place in (0, len(COLUMNS) - 1):
            table.add_column(COLUMNS[place], overflow="fold", no_wrap=place > 0)
        else:
            table.add_column(COLUMNS[place], justify="right", no_wrap=True)
    for estimate in found.estimates:
        cells = _row(estimate, found.verdict(estimate.variant), ablation)
        table.add_row(*(cells[place] for place in shown))
    table.caption, table.caption_justify = Text(_legend(found, ablation, wide=wide), "dim"), "left"
    return table


def _row(estimate: Estimate, verdict: Verdict | None, ablation: Ablation) -> list[Text]:
    from rich.text import Text

    contrast = verdict.contrast if verdict else None
    figures = ["", "", "", ""] if verdict is None else ["–"] * 4
    if verdict and contrast:
        difference = [signed(contrast.value), span(contrast.low, contrast.high)]
        figures = [*difference, probability(verdict.p), f"{100 * contrast.improvement:.0f} %"]
    word = Text(verdict.word, STYLES[verdict.word]) if verdict else Text("baseline", "dim")
    named = [_named(estimate.variant, ablation), percent(estimate.value), interval(estimate.low, estimate.high)]
    return [*map(Text, [*named, *figures]), word]


def _legend(found: MetricComparison, ablation: Ablation, *, wide: bool) -> str:
    text = f"{found.basis}; points: above {ablation.baseline}, on the same clips and seeds; p: Holm over variants"
    if wide:
        text += "; wins: how often a run scores above a run of the baseline"
    return "\n".join([text, *(f"{one.variant}: {one.note}" for one in found.verdicts if one.note)])


def _named(variant: str, ablation: Ablation) -> str:
    return f"{variant} (control)" if ablation.variant(variant).control else variant


def verdict_markdown(comparison: Comparison) -> str:
    """Write the table of the metric that decides in Markdown: a line for each variant, the baseline first."""
    found, ablation = comparison.decisive, comparison.ablation
    lines = [
        f"| {found.question} | {found.measure} | against {ablation.baseline} | p | verdict |",
        "|---|---:|---:|---:|---|",
    ]
    for estimate in sorted(found.estimates, key=lambda one: one.variant != ablation.baseline):
        cells = _markdown_cells(estimate, found.verdict(estimate.variant), ablation)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, "", f"Means in per cent, differences in points: {found.basis}."])


def _markdown_cells(estimate: Estimate, verdict: Verdict | None, ablation: Ablation) -> list[str]:
    mean = f"{percent(estimate.value)} [{interval(estimate.low, estimate.high)}]"
    cells = [_named(estimate.variant, ablation), mean]
    if verdict is None:
        return [*cells, "", "", "baseline"]
    word = ": ".join(filter(None, [verdict.word, verdict.note]))
    contrast = verdict.contrast
    if contrast is None:
        return [*cells, "", "", word]
    difference = f"{signed(contrast.value)} [{span(contrast.low, contrast.high)}]"
    return [*cells, difference, probability(verdict.p), word]
