"""The report of an ablation: one self-contained HTML file with the verdicts first, then the evidence.

Notable choices:

- Style, plots and content security policy are those of the report of a run.
- A section without data is left out or says why.
- Token cards are measured again here. If that fails, the report gives the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...core.errors import OssicleError
from ...core.hooks import ReportSection
from ...report import formats
from ...report.record import TokenFigures
from ...report.training import Curve
from ..comparison import Comparison, MetricComparison, compare
from ..outcomes import Ablation, Cell, Variant
from ..record import REPORT
from .settings import Setting, differing

if TYPE_CHECKING:
    from ...report.figures import Plot
    from ..predictors import Predictor

FORMATS = ("percent", "interval", "points", "signed", "span", "probability", "information", "duration", "moment")
CURVES = {
    "masked_accuracy": "Share of hidden patches that are predicted correctly. The difficulty depends on the tokenizer.",
    "loss": "Comparable only between variants with the same tokenizer and the same objective.",
}
WIDTHS = (880, 356)
PREDICTORS_DRAWN = 6
NEGLIGIBLE = 0.01
"""Relative difference of costs below which they are not drawn."""


@dataclass(frozen=True)
class MetricView:
    """The comparison by a metric with its plots, each for wide and for narrow screens."""

    found: MetricComparison
    estimates: Sequence[Any]
    differences: Sequence[Any]


@dataclass(frozen=True)
class CurveView:
    """One training metric with a plot for every variant."""

    name: str
    caption: str
    plots: list[Plot]


@dataclass(frozen=True)
class CostRow:
    """The cost of a variant, the mean over its seeds."""

    variant: Variant
    seconds: float
    audio_hours: float
    parameters: int
    score: float | None


@dataclass(frozen=True)
class TokenRow:
    """The token figures of a variant, the mean over its seeds, and the reports of its cells by seed."""

    variant: Variant
    figures: dict[str, float | None]
    reports: dict[int, str]


@dataclass(frozen=True)
class SettingsView:
    """The settings in which a variant differs from the baseline, or None if a configuration cannot be read."""

    variant: Variant
    found: list[Setting] | None


@dataclass
class Pieces:
    """The inputs of the template besides the comparison."""

    metrics: list[MetricView] = field(default_factory=list)
    curves: list[CurveView] = field(default_factory=list)
    costs: list[CostRow] = field(default_factory=list)
    cost_plots: list[Plot] = field(default_factory=list)
    tokens: list[TokenRow] = field(default_factory=list)
    predictors: list[Predictor] = field(default_factory=list)
    predictor_plots: list[Plot] = field(default_factory=list)
    settings: list[SettingsView] = field(default_factory=list)
    facts: list[tuple[str, Any]] = field(default_factory=list)


def write_ablation_report(
    folder: Path | str, comparison: Comparison | None = None, *, token_cards: bool = True
) -> Path:
    """Write `report.html` into the folder of the ablation and return its path.

    Args:
        comparison: result of `compare` for `folder`, if it is already computed
        token_cards: whether to measure the tokenizers again and show their report cards

    Raises:
        ArtifactError: if there is no ablation, or none of its cells has the metric that decides
    """
    found = comparison or compare(folder)
    cards = _token_cards(found.ablation) if token_cards else None
    path = found.ablation.folder / REPORT
    draft = path.with_suffix(".html.part")
    draft.write_text(render(found, cards), encoding="utf-8")
    os.replace(draft, path)
    return path


def render(comparison: Comparison, cards: ReportSection | str | None = None) -> str:
    """Render the report as HTML.

    Args:
        cards: the section with the token cards, which is not escaped, or the reason why there is none
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader([here, here.parents[1] / "report"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(formats, name) for name in FORMATS}
    environment.filters["link"] = _link
    section, no_cards = (cards, "") if isinstance(cards, ReportSection) else (None, cards or "")
    return environment.get_template("ablation.html.j2").render(
        comparison=comparison,
        ablation=comparison.ablation,
        pieces=_pieces(comparison),
        cards=section,
        no_cards=no_cards,
    )


def _pieces(comparison: Comparison) -> Pieces:
    from ..predictors import predictors

    ablation = comparison.ablation
    costs = _costs(comparison)
    predicted = predictors(ablation)
    return Pieces(
        metrics=[_metric(found, ablation) for found in comparison.found],
        curves=list(filter(None, (_curves(name, caption, ablation) for name, caption in CURVES.items()))),
        costs=costs,
        cost_plots=_cost_plots(costs, comparison),
        tokens=_tokens(ablation),
        predictors=predicted,
        predictor_plots=_predictor_plots(predicted, ablation),
        settings=_settings(ablation),
        facts=_facts(ablation),
    )


def _metric(found: MetricComparison, ablation: Ablation) -> MetricView:
    from . import figures

    estimates = [figures.estimates(found, ablation, width) for width in WIDTHS]
    compared = any(one.contrast for one in found.verdicts)
    return MetricView(found, estimates, [figures.differences(found, ablation, width) for width in WIDTHS if compared])


def _curves(name: str, caption: str, ablation: Ablation) -> CurveView | None:
    from ...report.figures import Plot
    from . import figures

    def of(variant: str) -> list[Curve]:
        trainings = [training for cell in ablation.of(variant) if (training := cell.training())]
        return [curve for training in trainings if (curve := training.curve(name))]

    baseline = of(ablation.baseline)
    drawn = [(variant.name, of(variant.name)) for variant in ablation.variants]
    plots = [
        Plot(variant, figures.learning(variant, name, curves, baseline if variant != ablation.baseline else []))
        for variant, curves in drawn
        if curves
    ]
    return CurveView(name.replace("_", " "), caption, plots) if plots else None


def _costs(comparison: Comparison) -> list[CostRow]:
    scores = {one.variant: one.value for one in comparison.decisive.estimates}
    rows = []
    for variant in comparison.ablation.variants:
        costs = [cost for cell in comparison.ablation.of(variant.name) if (cost := cell.cost())]
        if costs:
            means = (fmean(one.seconds for one in costs), fmean(one.audio_hours for one in costs))
            rows.append(CostRow(variant, *means, costs[0].parameters, scores.get(variant.name)))
    return rows


def _cost_plots(costs: Sequence[CostRow], comparison: Comparison) -> list[Plot]:
    from ...report.figures import Plot
    from . import figures

    found, ablation = comparison.decisive, comparison.ablation
    estimates = {one.variant: one for one in found.estimates}
    quantities: dict[str, tuple[str, Callable[[CostRow], float]]] = {
        "Time": ("minutes of computation", lambda row: row.seconds / 60),
        "Audio": ("hours of audio processed", lambda row: row.audio_hours),
        "Size": ("million parameters of the encoder", lambda row: row.parameters / 1e6),
    }
    plots = []
    for title, (quantity, of) in quantities.items():
        rows = [row for row in costs if row.variant.name in estimates]
        marks = [
            figures.Mark(
                row.variant.name,
                of(row),
                (one := estimates[row.variant.name]).value,
                one.low,
                one.high,
                row.variant.control,
                row.variant.name == ablation.baseline,
            )
            for row in rows
        ]
        if marks and max(mark.x for mark in marks) > (1 + NEGLIGIBLE) * min(mark.x for mark in marks):
            plots.append(Plot(f"{title} against {found.measure}", figures.cost(marks, quantity, found.measure)))
    return plots


NAMES = ("codebook_size", "used", "perplexity", "label_information", "label_chance", "position_information")


def _tokens(ablation: Ablation) -> list[TokenRow]:
    rows = []
    for variant in ablation.variants:
        cells = ablation.of(variant.name)
        found = [tokens for cell in cells if (tokens := cell.tokens())]
        if found:
            reports = {cell.seed: f"{cell.run}/{REPORT}" for cell in cells}
            rows.append(TokenRow(variant, {name: _mean(found, name) for name in NAMES}, reports))
    return rows


def _mean(found: Sequence[TokenFigures], name: str) -> float | None:
    values = [getattr(one, name) for one in found]
    return None if None in values else fmean(values)


def _predictor_plots(found: Sequence[Predictor], ablation: Ablation) -> list[Plot]:
    from ...report.figures import Plot
    from . import figures

    decisive = [one for one in found if one.metric == ablation.metrics[0] and one.spearman.value == one.spearman.value]
    return [
        Plot(one.figure[:1].upper() + one.figure[1:], figures.prediction(one, ablation))
        for one in decisive[:PREDICTORS_DRAWN]
    ]


def _settings(ablation: Ablation) -> list[SettingsView]:
    baseline = _configuration(ablation.of(ablation.baseline))
    return [
        SettingsView(variant, differing(_configuration(ablation.of(variant.name)), baseline))
        for variant in ablation.variants
        if variant.name != ablation.baseline
    ]


def _configuration(cells: Sequence[Cell]) -> str:
    return cells[0].record.config if cells and cells[0].record else ""


def _facts(ablation: Ablation) -> list[tuple[str, Any]]:
    machine = {
        "memory" if key == "memory_gib" else key: value for key, value in (ablation.about["machine"] or {}).items()
    }
    if "memory" in machine:
        machine["memory"] = f"{machine['memory']} GiB"
    seeds = ", ".join(map(str, ablation.about["seeds"]))
    return [*ablation.about["versions"].items(), *machine.items(), ("seeds", seeds), ("jobs", ablation.about["jobs"])]


def _link(path: str) -> str:
    """Quote a path relative to the report for a link, because names may contain special characters."""
    return quote(path)


def _token_cards(ablation: Ablation) -> ReportSection | str:
    """Return the section with the token cards of the variants, or the reason why there is none."""
    from ...token_cards import token_card_section

    first = {variant.name: cells[0] for variant in ablation.variants if (cells := ablation.of(variant.name))}
    tokenizers = {name: ablation.folder / cell.run for name, cell in first.items() if cell.tokens()}
    if not tokenizers:
        return "no variant has token figures"
    controls = [variant.name for variant in ablation.variants if variant.control]
    try:
        return token_card_section(tokenizers, controls=controls)
    except OssicleError as error:
        return str(error)
