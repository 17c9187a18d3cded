"""The card in a real browser, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ossicle.tokens import measure_tokenizers, write_token_cards
from ossicle.tokens.card import CardOptions
from ossicle.tokens.perturbations import PERTURBATIONS

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
    " --disable-sync --disable-quic --enable-logging=stderr --dump-dom"
)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_sections_and_a_quiet_console(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "card.html"
    options = CardOptions(clips=9, split="train", listen=1, perturbations=PERTURBATIONS[:2])
    write_token_cards(measure_tokenizers([run], options=options), page)
    command = [str(BROWSER), *FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    for name in ("overview", "use", "stability", "agreement", "maps", "listen"):
        assert f'id="tokens-{name}"' in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
