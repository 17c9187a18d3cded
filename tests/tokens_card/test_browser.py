"""The card in a real browser, where one is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ossicle.tokens import measure_tokenizers, write_token_cards
from ossicle.tokens.card import CardOptions
from ossicle.tokens.perturbations import PERTURBATIONS


def test_sections_and_a_quiet_console(run: Path, browse: Callable[..., Any], tmp_path: Path) -> None:
    page = tmp_path / "card.html"
    options = CardOptions(clips=9, split="train", listen=1, perturbations=PERTURBATIONS[:2])
    write_token_cards(measure_tokenizers([run], options=options), page)
    done = browse(page, "--dump-dom")
    for name in ("overview", "use", "stability", "agreement", "maps", "listen"):
        assert f'id="tokens-{name}"' in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
