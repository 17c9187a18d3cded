"""The report of a run: one HTML file that needs nothing else.

Notable choices: the outcome comes first; a missing piece is left out or says why; everything that the run wrote is
escaped, and the page's own policy forbids scripts and the network, for plugins' sections too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.errors import ArtifactError
from . import formats
from .record import ProbeScore, RunRecord
from .training import Training
from .verdict import Question, Verdict, best_view, by_question, final_verdicts, headline, pretrained, role, verdicts

if TYPE_CHECKING:
    from .figures import Plot
    from .pictures import PictureView

PICTURES = 3
SPLITS = ("train", "valid", "test", "unlabelled")


class Section(Protocol):
    """A plugin's addition to the report; its `html` is trusted and put in as it is. Scripts in it do not run."""

    @property
    def title(self) -> str: ...

    @property
    def html(self) -> str: ...


@dataclass
class ProbeView:
    """A question's scores, drawn for wide and for narrow screens, and what they say of each pre-trained encoder.

    Attributes:
        folds: the folds of its cross-validation; empty without one
    """

    question: Question
    subjects: dict[str, list[ProbeScore]]
    best: list[ProbeScore]
    wide: str
    narrow: str
    verdicts: list[Verdict]
    folds: list[str]


@dataclass
class TrainingView:
    """A training stage's plots and pictures; `missing` says what could not be shown, and why."""

    name: str
    steps: int
    main: list[Plot] = field(default_factory=list)
    more: list[Plot] = field(default_factory=list)
    codebook: list[Plot] = field(default_factory=list)
    pictures: list[PictureView] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def write_report(run_folder: Path | str, extra_sections: Sequence[Section] = ()) -> Path:
    """Write `report.html` into the run's folder, and return its path.

    Raises:
        ArtifactError: if `run_folder` holds no readable `run.json`
    """
    record = RunRecord.read(run_folder)
    path = record.folder / "report.html"
    draft = path.with_suffix(".html.part")
    draft.write_text(render(record, extra_sections), encoding="utf-8")
    os.replace(draft, path)
    return path


def render(record: RunRecord, extra_sections: Sequence[Section] = ()) -> str:
    """The report as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        name: getattr(formats, name) for name in ("percent", "interval", "other", "duration", "moment")
    }
    found = verdicts(record.scores)
    template = environment.get_template("template.html.j2")
    return template.render(
        record=record,
        headline=headline(found),
        final=[(question, list(group)) for question, group in groupby(final_verdicts(found), lambda one: one.question)],
        probes=[_probe(question, subjects, found) for question, subjects in by_question(record.scores).items()],
        trainings=[_training(training) for training in record.trainings],
        splits=[split for split in SPLITS if any(survey.clips.get(split) for survey in record.surveys)],
        versions=_facts(record),
        slowest=max((stage.seconds for stage in record.stages), default=0) or 1,
        extra_sections=extra_sections,
        role=role,
    )


def _probe(question: Question, subjects: dict[str, list[ProbeScore]], found: Sequence[Verdict]) -> ProbeView:
    from . import figures

    best = [score for scores in subjects.values() if (score := best_view(scores))]
    wide, narrow = (figures.scores(question, subjects, width) for width in (880, 400))
    last_first = pretrained(subjects)[::-1]
    ours = [verdict for verdict in found if verdict.question == question]
    ours.sort(key=lambda verdict: last_first.index(verdict.subject))
    folds = list(dict.fromkeys(fold for scores in subjects.values() for score in scores for fold in score.folds))
    return ProbeView(question, subjects, best, wide, narrow, ours, folds)


def _training(training: Training) -> TrainingView:
    view = TrainingView(training.name, training.records[-1]["step"] if training.records else 0)
    _add_curves(training, view)
    _attempt(view, lambda: _add_codebook(training, view))
    _attempt(view, lambda: _add_pictures(training, view))
    return view


def _attempt(view: TrainingView, add: Callable[[], None]) -> None:
    try:
        add()
    except ArtifactError as error:
        view.missing.append(str(error))


# name of the metric: title, caption
CAPTIONS = {
    "loss": (
        "Loss",
        "Cross-entropy in nats. The dashed line is the entropy of the labels: the loss of a model that knows only how"
        " common each label is. Only what lies below it was learnt from context.",
    ),
    "masked_accuracy": ("Labels of hidden patches guessed right", "Share of hidden patches; rising is learning."),
    "audio_seconds_per_second": (
        "Speed",
        "Seconds of audio per second; a sagging line is a bottleneck or a busy machine.",
    ),
    "lr": ("Learning rate", "Warm-up and decay as configured; the loss should not jump where it peaks."),
}
FROM_ZERO = ("masked_accuracy", "audio_seconds_per_second")
CODE_COUNTS = {
    "labels_used": "labels used",
    "label_perplexity": "label perplexity",
    "predicted_perplexity": "predicted perplexity",
}


def _add_curves(training: Training, view: TrainingView) -> None:
    from . import figures

    names = training.names()
    for name, (title, caption) in CAPTIONS.items():
        if name in names:
            lines = [(name.replace("_", " "), training.curve(name))]
            if name == "loss" and "label_entropy" in names:
                lines.append(("label entropy", training.curve("label_entropy")))
            floor = 0.0 if name in FROM_ZERO else None
            svg = figures.curves(lines, f"{view.name}: {title}", reference="label entropy", floor=floor)
            view.main.append(figures.Plot(title, svg, caption if len(lines) > 1 or name != "loss" else ""))
    shown = {*CAPTIONS, *CODE_COUNTS, "label_entropy", "guessing_loss"}
    for name in names:
        if name not in shown:
            title = name.replace("_", " ").capitalize()
            svg = figures.curves([(title, training.curve(name))], f"{view.name}: {title}")
            view.more.append(figures.Plot(title, svg))


def _add_codebook(training: Training, view: TrainingView) -> None:
    from . import figures

    lines = [(title, curve) for name, title in CODE_COUNTS.items() if (curve := training.curve(name))]
    if lines:
        caption = (
            "How many codes serve as labels, how many it would be if all in use were equally common (perplexity), and"
            " how many the encoder's guesses use. Lines that sink show a codebook, or an encoder, that collapses."
        )
        svg = figures.curves(lines, f"{view.name}: codes in use", floor=0)
        view.codebook.append(figures.Plot("Codes in use", svg, caption))
    usage = training.usage()
    if usage is None:
        return
    unused = int((usage.counts[-1] == 0).sum())
    caption = f"A level line is an even codebook; a steep one leans on few codes. At the end {unused:,} of"
    caption += f" {usage.counts.shape[1]:,} codes labelled nothing."
    view.codebook.append(figures.Plot("Share by rank", figures.ranked_use(usage, view.name), caption))
    caption = "Brighter is more used. Rows that look alike show a settled codebook; a frozen tokenizer should not move."
    view.codebook.append(figures.Plot("Use over training", figures.use_over_time(usage, view.name), caption))


def _add_pictures(training: Training, view: TrainingView) -> None:
    from . import pictures

    view.pictures = [pictures.view(picture) for picture in training.pictures(PICTURES)]


def _facts(record: RunRecord) -> list[tuple[str, Any]]:
    """What the run ran on, as names and values."""
    machine = {"memory" if key == "memory_gib" else key: value for key, value in record.machine.items()}
    if "memory" in machine:
        machine["memory"] = f"{machine['memory']} GiB"
    facts: list[tuple[str, Any]] = [*record.versions.items(), *machine.items()]
    if record.seed is not None:
        facts.append(("seed", record.seed))
    if record.store:
        facts.append(("store", record.store))
    plugins = [f"{plugin.get('source', '?')} ({plugin.get('parts', '?')} parts)" for plugin in record.plugins]
    return [*facts, ("plugins", ", ".join(plugins))] if plugins else facts
