"""Report cards as HTML: a self-contained page, or a section of another report.

Notable choices:

- The page has the style of `ossicle.report`. Its policy also forbids scripts and network access, but allows embedded
  sounds.
- Names from a corpus or a run are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from einops import reduce
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..core.stage_runner import versions
from ..experiment.command_line import command_line
from ..report import formats, pictures
from .card import Card, TokenCards
from .drawings import COLOURS, entropies, stability_plots, use_by_rank
from .listening import Example
from .maps import ClipMap

FOLDER = Path(__file__).parent
FORMATS = ("percent", "interval", "information", "duration")
MOST_CLASSES = 16
WIDTH, BAND = 240, 12
EDGE = 8


@dataclass(frozen=True)
class Dot:
    """A clip on a map; x and y are in units of the drawing.

    Attributes:
        number: number of the class, which selects colour and shape; 0 for none
    """

    x: float
    y: float
    number: int
    title: str


@dataclass(frozen=True)
class MapView:
    """A map for the template."""

    title: str
    found: ClipMap
    dots: list[Dot]


@dataclass(frozen=True)
class ExampleView:
    """An example for the template: an image, and SVG paths around the patch and around others of the same code."""

    example: Example
    image: str
    height: int
    here: str
    elsewhere: str


def render_page(found: TokenCards) -> str:
    """Render a complete page."""
    return (
        _environment()
        .get_template("page.html.j2")
        .render(**_context(found, heading=2), command=command_line(), versions=versions())
    )


def render_section(found: TokenCards, *, note: str = "") -> str:
    """Render a section for a page with the style of `ossicle.report`. Its policy must allow `media-src data:`."""
    return _environment().get_template("section.html.j2").render(**_context(found, heading=3), note=note)


def _environment() -> Environment:
    loader = FileSystemLoader([FOLDER, FOLDER.parent / "report"])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {name: getattr(formats, name) for name in FORMATS}
    return environment


def _context(found: TokenCards, *, heading: int) -> dict[str, object]:
    cards, maps = found.cards, _maps(found)
    return {
        "found": found,
        "cards": cards,
        "clips": found.clips,
        "heading": heading,
        "colours": COLOURS,
        "use": [use_by_rank(cards), *entropies(cards)],
        "stability_figures": stability_plots(cards),
        "rows": _conditions(cards),
        "classes": _class_numbers(found),
        "maps": maps,
        "has_maps": any(maps.values()),
        "examples": _example_view,
        "width": WIDTH,
        "of_streams": any(card.streams > 1 for card in cards),
    }


def _conditions(cards: Sequence[Card]) -> list[tuple[str, float, str]]:
    """List every perturbation that was applied to any tokenizer: family, strength and unit."""
    return list(dict.fromkeys((one.family, one.strength, one.unit) for card in cards for one in card.stability))


def _class_numbers(found: TokenCards) -> dict[str, int]:
    """Number the most frequent classes from 1; empty without classes."""
    if found.clips.classes is None:
        return {}
    names = [found.clips.manifest.label_names[number] for number in found.clips.classes.tolist()]
    common = sorted(set(names), key=lambda name: (-names.count(name), name))[:MOST_CLASSES]
    return {name: number for number, name in enumerate(sorted(common), 1)}


def _maps(found: TokenCards) -> dict[str, list[MapView]]:
    """Collect the maps of all tokenizers, grouped by the basis of the layout."""
    both = {
        "By their tokens": [(card.title, card.token_map) for card in found.cards],
        "By the encoder that was trained on the tokens": [(card.title, card.encoder_map) for card in found.cards],
    }
    return {
        what: [MapView(title, one, _dots(found, one)) for title, one in maps if one is not None]
        for what, maps in both.items()
    }


def _dots(found: TokenCards, one: ClipMap) -> list[Dot]:
    manifest, numbers = found.clips.manifest, _class_numbers(found)
    scale = 400 - 2 * EDGE
    dots = []
    for clip, (x, y) in enumerate(one.points.tolist()):
        label = " + ".join(manifest.label_names[number] for number in manifest.labels[clip])
        title = f"{label}: {manifest.paths[clip]}" if label else str(manifest.paths[clip])
        dots.append(Dot(round(EDGE + scale * x, 1), round(EDGE + scale * y, 1), numbers.get(label, 0), title))
    return dots


def _example_view(card: Card, example: Example) -> ExampleView:
    frames, bins = example.frames.shape
    even = example.frames[: max(1, frames // 2) * min(2, frames), : bins // 2 * 2]
    small = reduce(even, "(t a) (f b) -> t f", "mean", a=min(2, frames), b=2)
    bands = card.bands
    here, *elsewhere = [_box(column, band, bands, example.columns) for column, band in example.marked]
    return ExampleView(example, pictures.shaded(small), BAND * bands, here, "".join(elsewhere))


def _box(column: int, band: int, bands: int, columns: int) -> str:
    cell = WIDTH / columns
    return f"M{column * cell:.1f} {(bands - 1 - band) * BAND}h{cell:.1f}v{BAND}h-{cell:.1f}z"
