"""The summary on the terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from ossicle.report import RunRecord, print_summary
from ossicle.report.record import ProbeScore
from ossicle.report.terminal import bar


def shown(folder: Any, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(RunRecord.read(folder), console)
    return str(console.file.getvalue()).replace("\xa0", " ")  # type: ignore[attr-defined]


def test_summary(quickstart: Any) -> None:
    quickstart.run["warnings"] = ["[bold]not markup[/bold]"]
    folder = quickstart.write()
    (folder / "report.html").touch()
    text = shown(folder)
    assert "linear_probe on gm_notes: accuracy" in text
    assert "66.0 %   61.5–70.5" in text
    flat = " ".join(text.split())
    assert (
        "Iteration 2 is above the untrained encoder and iteration 1 in every comparison, but cannot be told from its"
        " control “untrained teacher” in any comparison." in flat
    )
    assert "untrained teacher (control) 256 198 140.8 0.013 0.010 0.965 0.611 0.402" in flat
    assert re.search(r"above +untrained +38\.0 % \[33\.5–42\.5] +\+28\.0 points \[.* to .*], ", text)
    assert re.search(r"cannot tell +untrained teacher +65\.0 % \[60\.5–69\.5] +\+1\.0 points \[−.* to .*] *\n", text)
    assert "warning: [bold]not markup[/bold]" in text
    assert f"report: {folder / 'report.html'}" in text
    assert "20 stages (1 reused) in 5 min 12 s" in text


def test_folds_and_further_metrics_of_the_compared_view(empty_run: Any) -> None:
    empty_run.evaluate("linear_probe", "iteration 1", 0.5, folds=3)
    empty_run.evaluate("linear_probe", "untrained", 0.3, folds=3)
    text = shown(empty_run.write())
    lines = [line.rstrip() for line in text.splitlines()]
    assert "iteration 1 · bands: UAR 40.0 %, folds 51.0 %  52.0 %  53.0 %" in lines
    assert text.count("UAR") == 1


@pytest.mark.parametrize("width", [40, 80, 200])
def test_any_width(quickstart: Any, width: int) -> None:
    text = shown(quickstart.write(), width)
    assert all(len(line) <= width for line in text.splitlines() if "report:" not in line)


def test_run_without_probes(empty_run: Any) -> None:
    assert "No probe has scored" in shown(empty_run.write())


@pytest.mark.parametrize(
    ("value", "low", "high", "drawn"),
    [
        (0.5, 0.4, 0.6, "    ─●─    "),
        (0.0, 0.0, 0.2, "●──        "),
        (1.0, 1.0, 1.0, "          ●"),
        (0.5, float("nan"), float("nan"), "     ●     "),
        (float("nan"), 0.4, 0.6, "           "),
    ],
)
def test_bar(value: float, low: float, high: float, drawn: str) -> None:
    score = ProbeScore("t", "c", "s", "v", "accuracy", value, low, high, 10)
    assert bar(score, 0.0, 1.0, width=11) == drawn
    assert bar(score, 0.0, 1.0, width=11, ascii_only=True).isascii()
