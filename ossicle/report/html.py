"""The report of a run: one self-contained HTML file.

Notable choices:

- The outcome comes first.
- A missing piece is left out, or the report says why it is missing.
- Everything that the run wrote is escaped. The page's content security policy forbids scripts and network access, also
  in the sections of plugins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.errors import ArtifactError
from . import formats
from .outcome import headline
from .record import ProbeScore, Role, RunRecord, TokenFigures
from .training import Training
from .verdict import Question, Verdict, best_view, by_question, final_verdicts, pretrained, verdicts

if TYPE_CHECKING:
    from .figures import Plot
    from .pictures import PictureView

FORMATS = ("percent", "interval", "other", "points", "span", "information", "duration", "moment")
PICTURES = 3
SPLITS = ("train", "valid", "test", "unlabelled")


class Section(Protocol):
    """A section that a plugin adds to the report. Its `html` is trusted and inserted unescaped; scripts do not run."""

    @property
    def title(self) -> str: ...

    @property
    def html(self) -> str: ...


@dataclass
class ProbeView:
    """The scores of a question, drawn for wide and for narrow screens, and the verdicts on each pre-trained encoder.

    Attributes:
        folds: the folds of the cross-validation; empty without one
    """

    question: Question
    subjects: dict[str, list[ProbeScore]]
    best: list[ProbeScore]
    wide: str
    narrow: str
    verdicts: list[Verdict]
    folds: list[str]


@dataclass
class TokenView:
    """The token statistics of the tokenizers on one corpus."""

    corpus: str
    rows: list[TokenFigures]
    plots: list[Plot]


@dataclass
class TrainingView:
    """The plots and pictures of a training stage.

    Attributes:
        folded: whether the stage is collapsed on the page, because it is one of many (a fine-tuning of each encoder)
        missing: the parts that could not be shown, with the reasons
    """

    name: str
    folded: bool = False
    main: list[Plot] = field(default_factory=list)
    more: list[Plot] = field(default_factory=list)
    codebook: list[Plot] = field(default_factory=list)
    pictures: list[PictureView] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def write_report(run_folder: Path | str, extra_sections: Sequence[Section] = ()) -> Path:
    """Write `report.html` into the run's folder and return its path.

    Raises:
        ArtifactError: if `run_folder` contains no readable `run.json`
    """
    record = RunRecord.read(run_folder)
    path = record.folder / "report.html"
    draft = path.with_suffix(".html.part")
    draft.write_text(render(record, extra_sections), encoding="utf-8")
    os.replace(draft, path)
    return path


def render(record: RunRecord, extra_sections: Sequence[Section] = ()) -> str:
    """Render the report as HTML text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {name: getattr(formats, name) for name in FORMATS}
    found = verdicts(record.scores)
    judging = {stage.name for stage in record.stages if stage.is_evaluation}
    template = environment.get_template("template.html.j2")
    return template.render(
        record=record,
        headline=headline(found),
        final=[(question, list(group)) for question, group in groupby(final_verdicts(found), lambda one: one.question)],
        probes=[_probe(question, subjects, found) for question, subjects in by_question(record.scores).items()],
        roles=_roles(record.scores),
        tokens=_tokens(record.tokens),
        trainings=[_training(training, judging) for training in record.trainings],
        splits=[split for split in SPLITS if any(survey.clips.get(split) for survey in record.surveys)],
        versions=_facts(record),
        slowest=max((stage.seconds for stage in record.stages), default=0) or 1,
        extra_sections=extra_sections,
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


def _roles(scores: Sequence[ProbeScore]) -> dict[Role, str]:
    """Map the roles that occur to their names in the legend. A start has the name of its subject."""
    return {score.role: score.subject if score.role == "start" else score.role for score in scores}


def _tokens(tokens: Sequence[TokenFigures]) -> list[TokenView]:
    from . import figures

    views = []
    for corpus in dict.fromkeys(one.corpus for one in tokens):
        rows = [one for one in tokens if one.corpus == corpus]
        plots = []
        if any(one.label_information is not None for one in rows):
            caption = "The line shows the information beyond chance."
            plots.append(
                figures.Plot("Information of a token about the class", figures.class_information(rows), caption)
            )
        caption = "At 1, the position determines the token."
        plots.append(
            figures.Plot("Information of a token about its position", figures.position_information(rows), caption)
        )
        views.append(TokenView(corpus, rows, plots))
    return views


def _training(training: Training, judging: Collection[str]) -> TrainingView:
    view = TrainingView(training.name, folded=training.name in judging)
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
    "loss": ("Loss", ""),
    "masked_accuracy": (
        "Correct predictions of hidden tokens",
        "Share of hidden patches. It rises as the model learns.",
    ),
    "cosine": (
        "Cosine to the teacher",
        "Between the estimate from the codes and the output of the teacher. It rises as the model learns. It also"
        " depends on the teacher: outputs that vary little are easy to match.",
    ),
    "commitment": (
        "Commitment",
        "Squared distance between a patch's vector and its code. It falls as the codes move to the patches.",
    ),
    "accuracy": ("Training accuracy", "Share of the augmented training clips; test scores are under Probes."),
    "top_class_right": ("Training clips whose top class is correct", "Share of the augmented training clips."),
    "audio_seconds_per_second": (
        "Speed",
        "Seconds of audio per second. A falling line means a bottleneck or a busy machine.",
    ),
    "lr": ("Learning rate", "Warm-up and decay as configured; the loss should not jump where it peaks."),
}
# a metric that only one kind of training has: the caption of its loss
LOSSES = {
    "token_entropy": "Cross-entropy in nats. The dashed line is the entropy of the tokens: the loss of a model that"
    " knows only the frequency of each token. The other line is the loss of guessing each token from its band and the"
    " level of the clip's visible patches. Pre-training pays only once the loss is clearly below both.",
    "cosine": "One minus the cosine, plus the weighted commitment. It is comparable only under the same teacher, and"
    " never with the loss of pre-training.",
}
FROM_ZERO = ("masked_accuracy", "commitment", "accuracy", "top_class_right", "audio_seconds_per_second")
CODE_COUNTS = {
    "tokens_used": "tokens used",
    "token_perplexity": "token perplexity",
    "predicted_perplexity": "predicted perplexity",
}


def _add_curves(training: Training, view: TrainingView) -> None:
    from . import figures

    names = training.names()
    for name, (title, caption) in CAPTIONS.items():
        if name in names:
            lines = [(name.replace("_", " "), training.curve(name))]
            if name == "loss" and "token_entropy" in names:
                lines.append(("token entropy", training.curve("token_entropy")))
            if name == "loss" and "level_guess_loss" in names:
                lines.append(("guess from level and band", training.curve("level_guess_loss")))
            floor = 0.0 if name in FROM_ZERO else None
            svg = figures.curves(lines, f"{view.name}: {title}", reference="token entropy", floor=floor)
            if name == "loss":
                caption = next((text for metric, text in LOSSES.items() if metric in names), "")
            view.main.append(figures.Plot(title, svg, caption))
    shown = {*CAPTIONS, *CODE_COUNTS, "token_entropy", "guessing_loss", "level_guess_loss", "cpu_seconds"}
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
            "Number of codes that occur as tokens, and perplexity (the number of equally frequent codes with the same"
            " entropy) of the tokens and, if there are any, of the encoder's predictions. Falling lines show that the"
            " codebook or the encoder collapses."
        )
        svg = figures.curves(lines, f"{view.name}: codes in use", floor=0)
        view.codebook.append(figures.Plot("Codes in use", svg, caption))
    usage = training.usage()
    if usage is None:
        return
    unused = int((usage.counts[-1] == 0).sum())
    caption = "A level line means that all codes are used equally, a steep one that a few codes dominate. At the end,"
    caption += f" {unused:,} of {usage.counts.shape[1]:,} codes were not used."
    view.codebook.append(figures.Plot("Share by rank", figures.ranked_use(usage, view.name), caption))
    caption = (
        "Brighter codes are used more. Similar rows show a stable codebook. For a frozen tokenizer, all rows should"
    )
    caption += " look the same."
    view.codebook.append(figures.Plot("Use over training", figures.use_over_time(usage, view.name), caption))


def _add_pictures(training: Training, view: TrainingView) -> None:
    from . import pictures

    view.pictures = [pictures.view(picture) for picture in training.pictures(PICTURES)]


def _facts(record: RunRecord) -> list[tuple[str, Any]]:
    """Collect the versions, the machine, the seed, the store and the plugins of the run, as names and values."""
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
