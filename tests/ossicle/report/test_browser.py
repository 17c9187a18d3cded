"""The report in a real browser, if one is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_sections_and_a_quiet_console(report: Path, browse: Callable[..., Any]) -> None:
    done = browse(report, "--dump-dom")
    for name in ("probes", "tokens", "training", "codebook", "pictures", "corpora", "stages", "reproduce"):
        assert f'<section id="{name}"' in done.stdout
    assert "<script" not in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


@pytest.mark.parametrize("dark", [False, True])
def test_drawn_in_light_and_dark(report: Path, drawn: Callable[..., Any], dark: bool) -> None:
    pixels = drawn(report, dark)
    assert (pixels[5, 5] < 128) == dark
    assert pixels.std() > 10


def test_captions_lie_below_their_plots(report: Path, check_captions: Callable[[Path], None]) -> None:
    check_captions(report)
