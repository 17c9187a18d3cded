"""The report in a real browser, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
    " --disable-sync --disable-quic --hide-scrollbars --enable-logging=stderr"
)


def browse(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [str(BROWSER), *FLAGS.split(), f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_sections_and_a_quiet_console(report: Path, tmp_path: Path) -> None:
    done = browse(report, tmp_path, "--dump-dom")
    for name in ("probes", "tokens", "training", "codebook", "pictures", "corpora", "stages", "reproduce"):
        assert f'<section id="{name}"' in done.stdout
    assert "<script" not in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


@pytest.mark.parametrize(("scheme", "dark"), [(1, False), (0, True)])
def test_drawn_in_light_and_dark(report: Path, tmp_path: Path, scheme: int, dark: bool) -> None:
    shot = tmp_path / "shot.png"
    flags = (f"--screenshot={shot}", "--window-size=1280,1600", f"--blink-settings=preferredColorScheme={scheme}")
    browse(report, tmp_path / "profile", *flags)
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("L"), np.float32)
    assert (pixels[5, 5] < 128) == dark
    assert pixels.std() > 10
