"""Plots of an ablation, as inline SVG that takes its colours from the page.

Notable choices:

- In all plots, marks of controls are hollow and in a warm colour, and the baseline is grey.
- Names are above their rows or beside the plot, because a margin would cut long ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from ...report.figures import ACCENT, GRID, INK, MUTED, PAGE, ROUND, WARM, as_svg, plain, thin
from ...report.training import Curve
from ..comparison import MetricComparison
from ..outcomes import Ablation
from ..predictors import Predictor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW, TOP, BOTTOM, SIDE = 42, 14, 42, 14
SMALL = (290, 178)
SMALL_MARGINS = (46, 36, 18, 10)
COST = (440, 240)
COST_MARGINS = (46, 42, 176, 12)
LINE = 14
LABEL_CHARACTERS = 24


@dataclass(frozen=True)
class Mark:
    """A variant in a scatter plot. y and its interval are shares."""

    name: str
    x: float
    y: float
    low: float
    high: float
    control: bool
    baseline: bool


def estimates(found: MetricComparison, ablation: Ablation, width: int) -> Markup:
    """Draw the mean of every variant with its interval, its seeds as ticks, and a line at the mean of the baseline."""

    def draw(axes: Axes) -> None:
        for place, one in enumerate(found.estimates):
            look = _look(one.variant, ablation)
            axes.plot([100 * one.low, 100 * one.high], [place] * 2, color=look["color"], linewidth=2.5)
            seeds = [100 * value for value in one.of_seeds.values()]
            axes.plot(seeds, [place] * len(seeds), "|", color=look["color"], markersize=10, markeredgewidth=1.5)
            _mark(axes, 100 * one.value, place, look)
            if one.variant == ablation.baseline:
                axes.axvline(100 * one.value, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=0.5)
        _rows(axes, [one.variant for one in found.estimates], ablation, width)
        axes.set_xlabel(plain(f"{found.measure}, %"))
        axes.set_xlim(max(-1, axes.get_xlim()[0]), min(101, axes.get_xlim()[1]))

    label = f"{found.question}: mean over seeds with 95 % intervals"
    return as_svg(draw, _size(width, len(found.estimates)), label, margins=(SIDE, BOTTOM, SIDE, TOP))


def differences(found: MetricComparison, ablation: Ablation, width: int) -> Markup:
    """Draw the difference of every variant from the baseline with its interval. Shade what is too small to detect."""
    contrasts = [one.contrast for one in found.verdicts if one.contrast]

    def draw(axes: Axes) -> None:
        if math.isfinite(found.detectable):
            bar = 100 * found.detectable
            axes.axvspan(-bar, bar, color=GRID, alpha=0.45, linewidth=0, zorder=0.2)
        axes.axvline(0, color=MUTED, linewidth=1, zorder=0.5)
        for place, one in enumerate(contrasts):
            look = _look(one.variant, ablation)
            axes.plot([100 * one.low, 100 * one.high], [place] * 2, color=look["color"], linewidth=2.5)
            _mark(axes, 100 * one.value, place, look)
        _rows(axes, [one.variant for one in contrasts], ablation, width)
        axes.set_xlabel(plain(f"{found.measure}: points above {ablation.baseline}"))

    label = f"{found.question}: differences from {ablation.baseline} with 95 % intervals"
    return as_svg(draw, _size(width, len(contrasts)), label, margins=(SIDE, BOTTOM, SIDE, TOP))


def learning(name: str, metric: str, seeds: Sequence[Curve], baseline: Sequence[Curve]) -> Markup:
    """Draw the curves of a variant, one per seed, over those of the baseline."""

    def draw(axes: Axes) -> None:
        for curve in baseline:
            thinned = thin(curve, 120)
            axes.plot(thinned.steps, thinned.values, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for curve in seeds:
            thinned = thin(curve, 120)
            axes.plot(thinned.steps, thinned.values, color=ACCENT, linewidth=1.5, alpha=0.8)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=ROUND))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.margins(x=0.01)

    return as_svg(draw, SMALL, f"{name}: {metric}", margins=SMALL_MARGINS)


def cost(marks: Sequence[Mark], quantity: str, measure: str) -> Markup:
    """Draw score against cost: a dot with its interval for every variant, and its name beside the plot."""
    height = max(COST[1], BOTTOM + TOP + LINE * (len(marks) + 1))

    def draw(axes: Axes) -> None:
        for mark in marks:
            look = _shape(mark.control, mark.baseline)
            axes.plot([mark.x] * 2, [100 * mark.low, 100 * mark.high], color=look["color"], linewidth=1.75)
            _mark(axes, mark.x, 100 * mark.y, look)
        axes.set_xlim(*_padded([mark.x for mark in marks]))
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND))
        axes.set_xlabel(plain(quantity))
        _names_beside(axes, marks, height - COST_MARGINS[1] - COST_MARGINS[3])

    return as_svg(draw, (COST[0], height), f"{measure}, %, against {quantity}", margins=COST_MARGINS)


def _names_beside(axes: Axes, marks: Sequence[Mark], pixels: int) -> None:
    """Write the name of each mark to the right of the axes, at its height or moved to avoid overlap."""
    low, high = axes.get_ylim()
    by_height = sorted(marks, key=lambda mark: mark.y)
    ideal = [(100 * mark.y - low) / (high - low) for mark in by_height]
    step = min(LINE / pixels, 1 / max(1, len(marks)))
    places: list[float] = []
    for height in ideal:
        places.append(max(height, places[-1] + step) if places else max(height, step / 2))
    ceiling = 1.0
    for number in reversed(range(len(places))):
        places[number] = min(places[number], ceiling)
        ceiling = places[number] - step
    for mark, place in zip(by_height, places, strict=True):
        axes.annotate(
            plain(_short(mark.name)),
            (mark.x, 100 * mark.y),
            (1.04, place),
            xycoords="data",
            textcoords="axes fraction",
            va="center",
            fontsize=11,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": GRID, "linewidth": 1, "shrinkA": 0, "shrinkB": 4},
            annotation_clip=False,
        )


def _short(name: str) -> str:
    return name if len(name) <= LABEL_CHARACTERS else f"{name[: LABEL_CHARACTERS - 1].rstrip()}…"


def prediction(one: Predictor, ablation: Ablation) -> Markup:
    """Draw the score against a figure of the tokens, a dot for every run."""

    def draw(axes: Axes) -> None:
        for variant, _, figure, value in one.points:
            _mark(axes, figure, 100 * value, {**_look(variant, ablation), "markersize": 5.5})
        axes.set_xlabel(plain(one.figure))
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
        axes.margins(0.08)

    return as_svg(draw, SMALL, f"{one.metric} against {one.figure}", margins=SMALL_MARGINS)


def _look(variant: str, ablation: Ablation) -> dict[str, Any]:
    return _shape(ablation.variant(variant).control, variant == ablation.baseline)


def _shape(control: bool, baseline: bool) -> dict[str, Any]:
    hollow = {"markerfacecolor": PAGE, "markeredgewidth": 2} if control else {}
    return {"color": WARM if control else MUTED if baseline else ACCENT, "markersize": 8, **hollow}


def _mark(axes: Axes, x: float, y: float, look: dict[str, Any]) -> None:
    axes.plot([x], [y], "o", **look)


def _rows(axes: Axes, variants: Sequence[str], ablation: Ablation, width: int) -> None:
    """Write the name of each variant above its row."""
    for place, variant in enumerate(variants):
        name = f"{variant} (control)" if ablation.variant(variant).control else variant
        axes.text(0, place - 0.4, plain(name), transform=axes.get_yaxis_transform(), va="center", color=INK)
    axes.set_yticks(range(len(variants)), [""] * len(variants))
    axes.set_ylim(len(variants) - 0.6, -0.75)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(width // 80, steps=ROUND))


def _size(width: int, rows: int) -> tuple[int, int]:
    return width, BOTTOM + TOP + ROW * rows


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
    return low - margin, high + margin
