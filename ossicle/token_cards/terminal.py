"""Report cards on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from ..report.formats import duration, information, percent
from .card import Card, TokenCards

if TYPE_CHECKING:
    from rich.console import Console


def print_cards(found: TokenCards, console: Console) -> None:
    """Print the token statistics of each tokenizer, their stability, and the agreement between tokenizers."""
    clips = found.clips
    console.print(_contents(found.cards))
    console.print(_stability(found))
    if len(found.cards) > 1:
        console.print(_agreement(found))
    for card in found.cards:
        for remark in card.remarks:
            console.print(Text("note: ", "bold yellow").append(f"{card.title}: {remark}", "default"))
    where = f"{len(clips.manifest)} of {clips.available:,} {clips.split} clips of {clips.corpus}"
    console.print(Text(f"{where}, {duration(clips.seconds)} of sound, seed {found.options.seed}", "dim"))


def _contents(cards: Sequence[Card]) -> Table:
    table = _table("token statistics", "", cards)
    rows: list[tuple[str, Callable[[Card], Text]]] = [
        ("codes", lambda card: Text(_codes(card))),
        ("used", lambda card: Text(f"{card.summary['used']:.0f}")),
        ("perplexity", lambda card: Text(f"{card.summary['perplexity']:.1f}")),
        ("  in a batch", lambda card: Text(f"{card.summary['batch_perplexity']:.1f}")),
        ("class", lambda card: _beside(card, information, "label_information", "label_chance")),
        ("purity", lambda card: _beside(card, _share, "purity", "purity_chance")),
        ("position", lambda card: Text(information(card.summary["position_information"]))),
        ("steady", lambda card: Text(_share(card.steadiness))),
    ]
    for name, cell in rows:
        table.add_row(name, *map(cell, cards))
    table.caption = Text(
        "class and position: normalised mutual information with a token; in brackets: chance, with classes shuffled"
        " over the clips; steady: mean share of tokens kept under all changes below, beyond chance at the same position"
        " (kappa)",
        "dim",
    )
    return table


def _codes(card: Card) -> str:
    return f"{card.streams} × {card.codebook_size}" if card.streams > 1 else f"{card.codebook_size}"


def _beside(card: Card, shown: Callable[[float | None], str], name: str, chance: str) -> Text:
    text = Text(shown(card.summary[name]))
    return text.append(f" ({shown(card.summary[chance])})", "dim") if card.summary[name] is not None else text


def _stability(found: TokenCards) -> Table:
    table = _table(f"tokens that keep their id, {found.stability_clips} clips", "change", found.cards)
    for family, strength, unit in dict.fromkeys(
        (one.family, one.strength, one.unit) for card in found.cards for one in card.stability
    ):
        cells = []
        for card in found.cards:
            one = card.under(family, strength)
            chance = f" ({100 * one.chance_at_position:4.1f})" if one else ""
            cells.append(Text(percent(one.kept) if one else "–").append(chance, "dim"))
        table.add_row(f"{family} {strength:g} {unit}".replace(" -", " −"), *cells)
    table.caption = Text("in brackets: chance that another clip has the same token at the same position", "dim")
    return table


def _agreement(found: TokenCards) -> Table:
    table = _table("agreement of tokenizers: adjusted mutual information", "", found.cards)
    for card, values in zip(found.cards, found.agreement, strict=True):
        table.add_row(Text(card.title), *map(information, values))
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _table(title: str, first: str, cards: Sequence[Card]) -> Table:
    """Make a table with a column for each tokenizer."""
    table = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.caption_justify = "left"
    table.add_column(first)
    for card in cards:
        table.add_column(Text(card.title), justify="right", overflow="fold")
    return table
