"""The command `tokens`: a report card of tokenizers."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import Adder, add_plugin

PAGE = "tokens.html"


def add_commands(add: Adder) -> None:
    """Add the commands of this group."""
    command = add("tokens", _tokens, "write a report card of tokenizers")
    command.add_argument(
        "tokenizers", nargs="+", type=Path, metavar="TOKENIZER", help="a run, an artifact or a released checkpoint"
    )
    command.add_argument(
        "--corpus", help="a corpus by name, a folder, a table, or YAML (default: the corpus of the first run)"
    )
    command.add_argument("--clips", type=int, default=300, help="number of clips (default: 300)")
    command.add_argument(
        "--split", choices=("train", "valid", "test", "unlabelled"), help="split to draw clips from (default: valid)"
    )
    command.add_argument("--seed", type=int, default=0, help="seed of all random choices (default: 0)")
    command.add_argument(
        "--code",
        type=int,
        action="append",
        default=[],
        metavar="ID",
        help="code to listen to, instead of chosen ones; can be repeated",
    )
    command.add_argument(
        "--out", type=Path, default=Path(PAGE), metavar="FILE", help=f"page, next to a JSON file (default: {PAGE})"
    )
    add_plugin(command)


def _tokens(options: argparse.Namespace) -> int:
    """Write a report card of tokenizers: token statistics, stability, maps, and codes to listen to."""
    from rich.console import Console
    from rich.text import Text

    from ..experiment.output_paths import check_page
    from ..token_cards import measure_tokenizers, write_token_cards
    from ..token_cards.card import CardOptions
    from ..token_cards.terminal import print_cards

    check_page("--out", options.out)
    console = Console()
    asked = CardOptions(clips=options.clips, seed=options.seed, split=options.split, codes=options.code)
    with console.status("loading") as status:
        found = measure_tokenizers(
            options.tokenizers,
            options.corpus,
            asked,
            plugins=options.plugin,
            on_step=lambda step: status.update(Text(step)),
        )
        figures = write_token_cards(found, options.out)
    print_cards(found, console)
    print(f"{options.out}, {figures}")
    return 0
