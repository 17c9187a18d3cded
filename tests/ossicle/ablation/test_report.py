"""The report of an ablation: its content, that it is self-contained, and how a real browser shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ossicle.ablation.comparison import compare
from ossicle.ablation.report import write_ablation_report
from ossicle.ablation.report.html import render
from ossicle.ablation.report.settings import differing
from ossicle.core.hooks import ReportSection

SECTIONS = ("scores", "training", "cost", "settings", "tokens", "predictors", "token-cards", "cells", "reproduce")


@pytest.fixture(scope="module")
def report(study: Path) -> Path:
    """The report of the full study with token cards."""
    return write_ablation_report(study)


class Reader(HTMLParser):
    """Collects text, links and unclosed tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "br", "path", "use", "circle", "rect", "image", "line", "text"):
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text("utf-8"))
    return reader


def test_verdicts_come_first_and_every_section_is_present(report: Path) -> None:
    html = report.read_text("utf-8")
    assert html.index("Better than random projection") < html.index('class="found"') < html.index("<section")
    for name in SECTIONS:
        assert f'<section id="{name}"' in html
    for word in ("better", "worse", "cannot tell"):
        assert f">{word}</span>" in html
    assert "CorpusError: 3 of 4 files\ncannot be read" in html
    assert "ossicle ablate experiments/ablations/tokenizers.yaml" in html


def test_the_report_is_self_contained(report: Path) -> None:
    reader = read(report)
    assert reader.open == []
    own = re.compile(r"#[\w.-]+|data:.*|cells/[\w.%-]+/report\.html", re.DOTALL)
    assert [link for link in reader.links if not own.fullmatch(link)] == []
    cells = {link for link in reader.links if link.startswith("cells/")}
    assert len(cells) == 14
    assert all((report.parent / link).is_file() for link in cells)
    assert "<script" not in report.read_text("utf-8")


def test_the_report_shows_differing_settings(report: Path) -> None:
    text = read(report).text
    assert "schedule.iterations.0.tokenizer.normalize" in text
    assert re.search(r"l2\s+instead of\s+layer", text)


def test_names_of_variants_are_escaped(fake_study: Callable[..., Any], variant: Any) -> None:
    hostile = '<img src=x onerror="alert(1)">$x$'
    folder = fake_study().add(variant("random projection", 0.5)).add(variant(hostile.replace("/", ""), 0.6)).write()
    html = render(compare(folder))
    assert "<img" not in html
    assert "&lt;img src=x" in html


def test_the_report_says_why_there_are_no_token_cards(fake_study: Callable[..., Any], variant: Any) -> None:
    folder = fake_study().add(variant("random projection", 0.5)).add(variant("mine", 0.6)).write()
    for path in folder.glob("cells/*/experiment.yaml"):
        path.write_text("name: broken\n")
    html = write_ablation_report(folder).read_text("utf-8")
    assert "Left out:" in html


def test_the_section_of_token_cards_is_shown(study: Path) -> None:
    html = render(compare(study), ReportSection("Token cards & more", "<p>measured</p>"))
    assert "Token cards &amp; more</h2>" in html
    assert "<p>measured</p>" in html


def test_an_incomplete_study_has_a_report(fake_study: Callable[..., Any], variant: Any) -> None:
    study = fake_study(seeds=(0, 1)).add(variant("random projection", 0.5))
    folder = study.add(variant("mine", 0.6), failing={0: "no memory", 1: "no memory"}).write()
    html = write_ablation_report(folder, token_cards=False).read_text("utf-8")
    assert "No variant can be compared with random projection." in html
    assert "no memory" in html
    assert "No resolved configuration to compare" in html


def test_differing_settings() -> None:
    base = "name: a\nseed: 0\ntokenizer: {type: plain, size: 3, scale: null}\nsteps: [1, 2]\n"
    found = differing("name: b\nseed: 1\ntokenizer: {type: plain, size: 4, scale: null}\nsteps: [1, 5]\nnew: x\n", base)
    assert found is not None
    assert [(one.path, one.ours, one.theirs) for one in found] == [
        ("tokenizer.size", "4", "3"),
        ("steps.1", "5", "2"),
        ("new", "x", "–"),
    ]
    other = differing("tokenizer: {type: fine, bits: 2, scale: null}\nsteps: [1, 2]\n", base)
    assert other is not None
    assert [one.ours for one in other] == ["{type: fine, bits: 2}"]
    assert differing(base, "name: c") is not None
    assert differing(base, "") is None
    assert differing("a: [", base) is None


SIZE = """({
  shown: page.documentElement.clientWidth, needed: page.documentElement.scrollWidth,
  sections: page.querySelectorAll("section").length})"""


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_nothing_is_wider_than_the_screen(report: Path, measure: Callable[..., Any], width: int) -> None:
    size = measure(report, SIZE, width=width)
    assert 0 <= width - size["shown"] < 20
    assert size["needed"] <= size["shown"]
    assert size["sections"] == len(SECTIONS)


def test_the_browser_console_has_no_messages(report: Path, browse: Callable[..., Any]) -> None:
    done = browse(report, "--dump-dom")
    assert '<section id="predictors"' in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_report_follows_light_and_dark_mode(report: Path, drawn: Callable[..., Any], dark: bool) -> None:
    pixels = drawn(report, dark)
    assert (pixels[5, 5] < 128) == dark
    assert pixels.std() > 10


def test_the_report_can_be_printed(report: Path, browse: Callable[..., Any], tmp_path: Path) -> None:
    printed = tmp_path / "report.pdf"
    browse(report, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    assert printed.read_bytes().startswith(b"%PDF")
    assert printed.stat().st_size > 20_000
