"""Plots of a report card: a line for each tokenizer, with the same colour and marker in every plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from ..report.figures import MUTED, PANEL, ROUND, Plot, as_svg
from .card import Card
from .contents import StreamFigures
from .stability import Stability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = 8
MARKERS = "osD^vPX*"
MARGINS = (56, 42, 12, 12)
_PLACEHOLDERS = [f"#0000f{number}" for number in range(1, COLOURS + 1)]

CAPTIONS = {
    "noise": "White noise; the number is the signal-to-noise ratio.",
    "reverberation": "A diffuse tail as loud as the direct sound; the number is the time in which it falls by 60 dB.",
    "gain": "The whole clip is quieter.",
    "low-pass": "Frequencies above the number are removed, so tokens of those bands necessarily change.",
    "delay": "The clip begins later, so patch borders fall elsewhere in the sound.",
}


def use_by_rank(cards: Sequence[Card]) -> Plot:
    """Plot the share of the tokens over the rank of the code."""

    def draw(axes: Axes) -> None:
        for number, card in enumerate(cards):
            for stream in card.contents.streams:
                shares = [100 * share for share in stream.shares]
                axes.plot(range(1, len(shares) + 1), shares, **_look(number, marker="o" if len(shares) == 1 else ""))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("codes, most frequent first")
        axes.set_ylabel("share of tokens, %")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND))

    caption = "A level line means that all codes are used equally, a steep one that a few codes dominate."
    return Plot("Share by rank", _svg(draw, "Share of the tokens by rank of code"), caption)


def entropies(cards: Sequence[Card]) -> list[Plot]:
    """Plot the entropy of the tokens in each time column and in each frequency band."""
    column = _entropy(cards, lambda one: one.column_entropy, "time column")
    band = _entropy(cards, lambda one: one.band_entropy, "band, lowest first")
    caption = "Low entropy means that few tokens occur, or that one dominates, such as the token of silence."
    return [
        Plot("Entropy in each time column", column, caption + " Only columns that half of the clips reach."),
        Plot("Entropy in each frequency band", band, "Tokens of a band with low entropy distinguish few sounds."),
    ]


def _entropy(cards: Sequence[Card], figures: Callable[[StreamFigures], list[float]], label: str) -> Markup:
    def draw(axes: Axes) -> None:
        for number, card in enumerate(cards):
            each = [figures(stream) for stream in card.contents.streams]
            means = [sum(values) / len(values) for values in zip(*each, strict=True)]
            axes.plot(range(1, len(means) + 1), means, **_look(number))
        axes.set_xlabel(label)
        axes.set_ylabel("bits")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=ROUND))

    return _svg(draw, f"Entropy of the tokens by {label}")


def stability_plots(cards: Sequence[Card]) -> list[Plot]:
    """Plot for every kind of change the share of stable tokens at each strength, and chance at their position."""
    families = dict.fromkeys(one.family for card in cards for one in card.stability)
    return [Plot(family.capitalize(), _stability(cards, family), CAPTIONS.get(family, "")) for family in families]


def _stability(cards: Sequence[Card], family: str) -> Markup:
    found = [[one for one in card.stability if one.family == family] for card in cards]
    strengths = list(dict.fromkeys(one.strength for line in found for one in line))
    unit = next(one.unit for line in found for one in line)

    def draw(axes: Axes) -> None:
        for number, line in enumerate(found):
            _line(axes, number, line, strengths)
        axes.set_ylim(0, 102)
        axes.set_xlim(-0.3, len(strengths) - 0.7)
        axes.set_xticks(range(len(strengths)), [f"{strength:g} {unit}".replace("-", "−") for strength in strengths])
        axes.set_ylabel("tokens kept, %")

    return _svg(draw, f"Tokens kept under {family}")


def _line(axes: Axes, number: int, found: Sequence[Stability], strengths: Sequence[float]) -> None:
    where = [strengths.index(one.strength) for one in found]
    look = _look(number)
    axes.plot(
        where, [100 * one.chance_at_position for one in found], **{**look, "marker": "", "linestyle": (0, (2, 3))}
    )
    axes.plot(where, [100 * one.kept for one in found], **look)
    for spot, one in zip(where, found, strict=True):
        axes.plot([spot, spot], [100 * one.low, 100 * one.high], color=look["color"], linewidth=3, alpha=0.4)


def _look(number: int, *, marker: str | None = None) -> dict[str, Any]:
    marker = MARKERS[number % COLOURS] if marker is None else marker
    return {"color": _PLACEHOLDERS[number % COLOURS], "marker": marker, "markersize": 5}


def _svg(draw: Callable[[Axes], None], label: str) -> Markup:
    def drawn(axes: Axes) -> None:
        draw(axes)
        axes.tick_params(labelcolor=MUTED)

    svg = str(as_svg(drawn, PANEL, label, margins=MARGINS))
    for number, colour in enumerate(_PLACEHOLDERS, 1):
        svg = svg.replace(colour, f"var(--tk{number})")
    return Markup(svg)
