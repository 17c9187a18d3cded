"""The card in a real browser, if one is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ossicle.token_cards import measure_tokenizers, write_token_cards
from ossicle.token_cards.card import CardOptions
from ossicle.token_cards.perturbations import PERTURBATIONS


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("card") / "card.html"
    options = CardOptions(clips=9, split="train", listen=1, perturbations=PERTURBATIONS[:2])
    write_token_cards(measure_tokenizers([run], options=options), page)
    return page


def test_sections_and_a_quiet_console(page: Path, browse: Callable[..., Any]) -> None:
    done = browse(page, "--dump-dom")
    for name in ("overview", "use", "stability", "agreement", "maps", "listen"):
        assert f'id="tokens-{name}"' in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


def test_captions_lie_below_their_plots(page: Path, check_captions: Callable[[Path], None]) -> None:
    check_captions(page)
