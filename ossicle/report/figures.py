"""Plots as inline SVG that takes its colours from the page.

Notable choices:

- matplotlib draws with placeholder colours, which become CSS variables. One figure is then legible on light and dark
  pages.
- Text stays text.
- Ids are unique within the page.
- One unit is one CSS pixel at full size.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .record import ProbeScore, Role, TokenFigures, titled
from .training import CodebookUsage, Curve
from .verdict import Question, best_view

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

_NAMES = ("ink", "muted", "rule", "accent", "warm", "cool", "page")
INK, MUTED, GRID, ACCENT, WARM, COOL, PAGE = (f"#00000{number}" for number in range(1, 8))
_VARIABLES = dict(zip((INK, MUTED, GRID, ACCENT, WARM, COOL, PAGE), _NAMES, strict=True))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 12,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.75,
}
PANEL = (440, 220)
MARGINS = (56, 40, 12, 22)
SCORE_MARGIN = 12
TOKEN_MARGINS = (16, 42, 14, 24)
ROLE_COLOURS: dict[Role, str] = {"start": MUTED, "log-mel": MUTED, "iteration": ACCENT, "control": WARM}
MAX_POINTS = 500
ROUND = (1, 2, 5, 10)
HEAT_CELLS = 240


@dataclass(frozen=True)
class Plot:
    """A figure of the report: a title, the drawing, and a caption with what to look for."""

    title: str
    svg: Markup
    caption: str = ""


def thin(curve: Curve, points: int = MAX_POINTS) -> Curve:
    """Reduce a curve to at most `points`.

    Keeps the minimum and maximum of each segment, so that spikes remain visible, and both ends.
    """
    if len(curve.steps) <= points:
        return curve
    values = np.asarray(curve.values)
    keep = {0, len(values) - 1}
    for segment in np.array_split(np.arange(len(values)), points // 2 - 1):
        keep |= {int(segment[values[segment].argmin()]), int(segment[values[segment].argmax()])}
    rows = sorted(keep)
    return Curve([curve.steps[row] for row in rows], [curve.values[row] for row in rows])


def curves(
    lines: Sequence[tuple[str, Curve]], label: str, *, reference: str = "", floor: float | None = None
) -> Markup:
    """Draw named curves over steps. The curve called `reference` is dashed."""
    colours = iter((ACCENT, WARM, COOL) * len(lines))

    def draw(axes: Axes) -> None:
        for name, curve in lines:
            thinned = thin(curve)
            look = {"color": MUTED, "linestyle": (0, (4, 3))} if name == reference else {"color": next(colours)}
            axes.plot(
                thinned.steps, thinned.values, label=plain(name), marker="o" if len(curve.steps) == 1 else "", **look
            )
        if floor is not None:
            axes.set_ylim(bottom=floor)
        _step_axis(axes)
        _legend(axes, len(lines))

    return as_svg(draw, PANEL, label)


def scores(question: Question, subjects: dict[str, list[ProbeScore]], width: int) -> Markup:
    """Draw a row with a dot and its interval for every view of every subject.

    The views that verdicts compare are opaque, the others faint. Ticks are the scores of single folds. The dots of
    controls are hollow.
    """
    best = [best_view(found) for found in subjects.values()]
    views: list[tuple[float, str]] = []
    left = 20 + 7 * max(len(score.view) for found in subjects.values() for score in found)

    def draw(axes: Axes) -> None:
        place = 0.0
        for subject, found in subjects.items():
            _row_title(axes, titled(subject, found[0].role), place, indent=-left / (width - left - SCORE_MARGIN))
            for score in found:
                place += 1
                _dot(axes, score, place, strong=any(score is one for one in best))
                views.append((place, score.view))
            place += 1.2
        axes.set_yticks([place for place, _ in views], [plain(view) for _, view in views])
        axes.set_ylim(place - 0.7, -0.6)
        axes.tick_params(axis="y", length=0, labelcolor=MUTED)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(width // 80, steps=ROUND))
        axes.set_xlabel(plain(f"{question.metric}, %"))
        axes.set_xlim(max(-1, axes.get_xlim()[0]), min(101, axes.get_xlim()[1]))

    rows = sum(len(found) + 1.2 for found in subjects.values())
    label = f"{question}: scores and their 95 % intervals"
    return as_svg(draw, (width, int(48 + 22 * rows)), label, margins=(left, 42, SCORE_MARGIN, 6))


def _row_title(axes: Axes, title: str, place: float, *, indent: float = 0.0) -> None:
    """Write `title` at the height `place`. `indent` is the distance from the left edge, in widths of the axes."""
    axes.text(indent, place, plain(title), transform=axes.get_yaxis_transform(), va="center", color=INK)


def _dot(axes: Axes, score: ProbeScore, place: float, *, strong: bool) -> None:
    colour = ROLE_COLOURS[score.role]
    strength = 1.0 if strong else 0.45
    axes.plot([100 * score.low, 100 * score.high], [place] * 2, color=colour, linewidth=2.5, alpha=strength)
    folds = [100 * value for value in score.folds.values()]
    axes.plot(folds, [place] * len(folds), "|", markersize=9, markeredgewidth=1.5, color=colour, alpha=strength)
    look: dict[str, Any] = {"marker": "D" if score.role == "log-mel" else "o", "markersize": 8 if strong else 6}
    if score.role == "control":
        axes.plot([100 * score.value], [place], color=PAGE, **look)
        look |= {"markerfacecolor": "none", "markeredgewidth": 2}
    axes.plot([100 * score.value], [place], color=colour, alpha=strength, **look)


def class_information(tokens: Sequence[TokenFigures]) -> Markup:
    """Draw the information of a token about the class, and its chance level, one row per tokenizer."""

    def draw(axes: Axes) -> None:
        for place, one in enumerate(tokens):
            if one.label_information is not None and one.label_chance is not None:
                axes.plot([one.label_chance, one.label_information], [place] * 2, color=ACCENT, linewidth=2.5)
        _marks(axes, "class", [one.label_information for one in tokens], ACCENT, "o")
        _marks(axes, "chance: classes shuffled over clips", [one.label_chance for one in tokens], MUTED, "|")
        _token_rows(axes, tokens, legend=2)

    return as_svg(draw, _token_panel(tokens), "Information of a token about the class", margins=TOKEN_MARGINS)


def position_information(tokens: Sequence[TokenFigures]) -> Markup:
    """Draw the information of a token about its position, time column and band, one row per tokenizer."""

    def draw(axes: Axes) -> None:
        _marks(axes, "position", [one.position_information for one in tokens], ACCENT, "o")
        _marks(axes, "time column", [one.column_information for one in tokens], WARM, "s")
        _marks(axes, "band", [one.band_information for one in tokens], COOL, "D")
        _token_rows(axes, tokens, legend=3)
        axes.set_xlim(-0.02, 1.02)

    return as_svg(draw, _token_panel(tokens), "Information of a token about its position", margins=TOKEN_MARGINS)


def _marks(axes: Axes, name: str, values: Sequence[float | None], colour: str, marker: str) -> None:
    known = [(value, place) for place, value in enumerate(values) if value is not None]
    size: dict[str, Any] = {"markersize": 14, "markeredgewidth": 2} if marker == "|" else {"markersize": 7}
    axes.plot([value for value, _ in known], [place for _, place in known], marker, color=colour, label=name, **size)


def _token_rows(axes: Axes, tokens: Sequence[TokenFigures], *, legend: int) -> None:
    for place, one in enumerate(tokens):
        _row_title(axes, titled(one.subject, one.role), place - 0.42)
    axes.set_yticks(range(len(tokens)), [""] * len(tokens))
    axes.set_ylim(len(tokens) - 0.65, -0.75)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=ROUND))
    axes.set_xlabel("normalised mutual information")
    _legend(axes, legend)


def _token_panel(tokens: Sequence[TokenFigures]) -> tuple[int, int]:
    return PANEL[0], TOKEN_MARGINS[1] + TOKEN_MARGINS[3] + 44 * len(tokens)


def ranked_use(usage: CodebookUsage, name: str) -> Markup:
    """Draw the share of each code in the tokens, most frequent first, at the first, the middle and the last count."""
    places = sorted({0, len(usage.steps) // 2, len(usage.steps) - 1})

    def draw(axes: Axes) -> None:
        for place, colour in zip(places, (MUTED, COOL, ACCENT)[-len(places) :], strict=True):
            shares = np.sort(_shares(usage.counts[place : place + 1])[0])[::-1]
            shares = shares[shares > 0]
            ranks = _spread(len(shares))
            axes.plot(ranks + 1, 100 * shares[ranks], color=colour, label=f"step {usage.steps[place]:,}")
        axes.set_yscale("log")
        axes.set_xlabel("codes, most frequent first")
        axes.set_ylabel("share of tokens, %")
        _legend(axes, len(places))

    return as_svg(draw, PANEL, f"{name}: share of the tokens by rank of code")


def use_over_time(usage: CodebookUsage, name: str) -> Markup:
    """Draw the use of codes over training: a row for each count, codes ordered by their total use."""
    order = np.argsort(usage.counts.sum(0), kind="stable")[::-1]
    rows = _spread(len(usage.steps), HEAT_CELLS)
    groups = np.array_split(order, min(HEAT_CELLS, len(order)))
    shares = _shares(usage.counts[rows])
    heat = np.stack([shares[:, group].mean(1) for group in groups], 1)  # (rows, groups of codes)
    top = max(float(np.quantile(heat, 0.99)), 1e-12)
    fade = LinearSegmentedColormap.from_list("fade", ["#21405e", "#2b8a9b", "#f2c45a", "#fff6d6"])

    def draw(axes: Axes) -> None:
        extent = (0.0, float(len(order)), len(rows) - 0.5, -0.5)
        image = axes.imshow(
            np.sqrt(np.clip(heat / top, 0, 1)), cmap=fade, aspect="auto", interpolation="none", extent=extent
        )
        image.set_clim(0, 1)
        axes.grid(False)
        ticks = _spread(len(rows), 5)
        axes.set_yticks(ticks, [f"{usage.steps[rows[tick]]:,}" for tick in ticks])
        axes.set_ylabel("step")
        axes.set_xlabel("codes, most frequent first")

    return as_svg(draw, PANEL, f"{name}: use of each code over training")


def _shares(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def _spread(length: int, points: int = MAX_POINTS) -> npt.NDArray[np.int64]:
    """Return up to `points` indices spread evenly over `length`, including both ends."""
    return np.unique(np.linspace(0, length - 1, min(length, points)).round().astype(np.int64))


def plain(text: str) -> str:
    """Escape dollar signs, which matplotlib would read as the start of a formula."""
    return text.replace("$", r"\$")


def _step_axis(axes: Axes) -> None:
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=ROUND))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
    axes.ticklabel_format(axis="y", scilimits=(-3, 4))
    axes.margins(x=0.01)


def _legend(axes: Axes, lines: int) -> None:
    if lines > 1:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0, fontsize=11, handlelength=1.4
        )


def as_svg(
    draw: Callable[[Axes], None], size: tuple[int, int], label: str, *, margins: tuple[int, int, int, int] = MARGINS
) -> Markup:
    """Draw axes as SVG inside fixed margins: left, bottom, right, top.

    The margins are fixed because matplotlib's automatic layout takes half of the drawing time.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"{label} {size}"}):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        left, bottom, right, top = margins
        width, height = size[0] - left - right, size[1] - bottom - top
        draw(figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1])))
        figure.patch.set_alpha(0)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        text = io.StringIO()
        FigureCanvasSVG(figure)
        figure.savefig(text, format="svg", metadata={"Date": None})
    return Markup(_inline(text.getvalue(), size, label))


def _inline(svg: str, size: tuple[int, int], label: str) -> str:
    """Prepare an SVG file for inclusion in a page: no prolog, the page's colours and font, only referenced ids."""
    unused = r'<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>|font-family: [^;"]*; |\n\s*'
    body = re.sub(unused, lambda found: " " if found[0].isspace() else "", svg[svg.index("<svg") :], flags=re.DOTALL)
    body = re.sub(r'\s(?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d)\d+", r"\1", found[0]), body)
    used = set(re.findall(r"""(?:url\(|href=")#([\w.-]+)""", body))
    body = re.sub(r'\sid="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    width, height = size
    head = f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" style="max-width: {width}px">'
    return re.sub(r"<svg[^>]*>", lambda _: head, body, count=1)
