"""Report cards on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from ..report.formats import duration, information, percent
from .card import Card, TokenCards

if TYPE_CHECKING:
    from rich.console import Console


def print_cards(found: TokenCards, console: Console) -> None:
    """Print what the tokens of each tokenizer hold, what they withstand and how far tokenizers agree."""
    clips = found.clips
    console.print(_holdings(found.cards))
    console.print(_stability(found))
    if len(found.cards) > 1:
        console.print(_agreement(found))
    for card in found.cards:
        for remark in card.remarks:
            console.print(Text("note: ", "bold yellow").append(f"{card.title}: {remark}", "default"))
    where = f"{len(clips.manifest)} of {clips.available:,} {clips.split} clips of {clips.corpus}"
    console.print(Text(f"{where}, {duration(clips.seconds)} of sound, seed {found.options.seed}", "dim"))


def _holdings(cards: Sequence[Card]) -> Table:
    table = _table("what tokens hold", "tokenizer")
    for name in ("codes", "used", "perpl.", "a batch", "class", "chance", "purity", "chance", "place", "steady"):
        table.add_column(name, justify="right", no_wrap=True)
    for card in cards:
        one = card.summary
        codes = f"{card.streams} × {card.codebook_size}" if card.streams > 1 else f"{card.codebook_size}"
        cells = [codes, f"{one['used']:.0f}", f"{one['perplexity']:.1f}", f"{one['batch_perplexity']:.1f}"]
        cells += [information(one[name]) for name in ("label_information", "label_chance")]
        cells += [_share(one[name]) for name in ("purity", "purity_chance")]
        cells += [information(one["place_information"]), _share(one["steadiness"])]
        table.add_row(Text(card.title), *map(Text, cells))
    table.caption = Text(
        "class and place: normalised mutual information with a token; chance: classes dealt out to the clips anew\n"
        "steady: mean share kept under all changes below, beyond what place alone would keep (Cohen's kappa)",
        "dim",
    )
    return table


def _stability(found: TokenCards) -> Table:
    table = _table(f"tokens that keep their id, {found.stability_clips} clips", "change")
    table.add_column("", justify="right", no_wrap=True)
    for card in found.cards:
        table.add_column(Text(card.title), justify="right")
    last = ""
    for family, strength, unit in dict.fromkeys(
        (kept.family, kept.strength, kept.unit) for card in found.cards for kept in card.kept
    ):
        cells = []
        for card in found.cards:
            kept = card.under(family, strength)
            chance = f" ({100 * kept.chance_at_place:4.1f})" if kept else ""
            cells.append(Text(percent(kept.kept) if kept else "–").append(chance, "dim"))
        table.add_row(family if family != last else "", f"{strength:g} {unit}".replace("-", "−"), *cells)
        last = family
    table.caption = Text("in brackets what agrees with another clip's token at the same place: chance", "dim")
    return table


def _agreement(found: TokenCards) -> Table:
    table = _table("agreement of tokenizers: adjusted mutual information", "")
    for card in found.cards:
        table.add_column(Text(card.title), justify="right")
    for card, values in zip(found.cards, found.agreement, strict=True):
        table.add_row(Text(card.title), *map(information, values))
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _table(title: str, first: str) -> Table:
    table = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.caption_justify = "left"
    table.add_column(first, overflow="fold")
    return table
