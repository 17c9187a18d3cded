"""Average the predictions of several runs for the same test clips, and score the mean.

Notable choices:

- Probabilities are averaged, not logits, because the scale of the logits depends on the regularisation of a model.
- By default, each run uses its last pre-trained encoder and the view that scored best on the validation clips.
- Runs are averaged only if they were evaluated on the same clips with the same truth.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from ..core.errors import ArtifactError
from ..core.store import Artifact
from ..core.wording import choices
from ..report.record import PREDICTIONS, ProbeScore, RunRecord
from ..report.terminal import score_table
from ..report.verdict import Question, best_view, by_question, pretrained
from ..tasks.evaluation.results import score_view

if TYPE_CHECKING:
    from rich.console import Console

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Predictions:
    """The predictions of one run for the test clips of a corpus.

    Attributes:
        corpus: fingerprint of the corpus's manifest
        clips: (clips,) rows in that manifest
        truth: (clips, classes) bool
        probabilities: (clips, classes)
        folds: (clips,) the fold that each clip was tested in; None without cross-validation
    """

    corpus: str
    clips: npt.NDArray[np.int64]
    truth: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]
    multi_label: bool
    folds: npt.NDArray[np.int64] | None


def ensemble(
    runs: Sequence[Path], *, task: str | None = None, subject: str | None = None, view: str | None = None
) -> dict[Question, dict[str, ProbeScore]]:
    """Score the mean prediction of several runs on every question that they have in common.

    Args:
        runs: folders of two or more runs
        task: the task to score; all tasks that the runs have in common when None
        subject: the encoder of each run; its last pre-trained one when None
        view: the pooling of each run; the best on its validation clips when None

    Returns:
        For each question the score of each single run, by its folder, and last the score of the `ensemble`.

    Raises:
        ArtifactError: if the runs have no question on the same clips in common, or do not state the scale of their
            predictions
    """
    if len({run.resolve() for run in runs}) < max(2, len(runs)):
        raise ArtifactError("an ensemble needs two or more different runs; name the folder of each once")
    answers = {str(run): by_question(RunRecord.read(run).scores) for run in runs}
    return {
        question: _together(
            question, {run: _spoken(run, question, found[question], subject, view) for run, found in answers.items()}
        )
        for question in _shared(answers, task)
    }


def print_ensembles(found: Mapping[Question, Mapping[str, ProbeScore]], console: Console) -> None:
    """Print a table for each question: each single run, then the ensemble."""
    for question, scores in found.items():
        rows = {
            run: [score if run == ENSEMBLE else replace(score, view=f"{score.subject} · {score.view}")]
            for run, score in scores.items()
        }
        console.print(score_table(question, rows, ascii_only=console.options.ascii_only))
        console.print()


def _shared(answers: Mapping[str, Mapping[Question, Any]], task: str | None) -> list[Question]:
    first, *others = answers.values()
    shared = [one for one in first if all(one in found for found in others)]
    if not shared:
        tasks = [f"{run}: {'; '.join(map(str, found)) or 'none'}" for run, found in answers.items()]
        raise ArtifactError("\n".join(["these runs have no evaluation task in common. Their tasks are:", *tasks]))
    selected = [one for one in shared if task in (None, one.task)]
    if task is not None and not selected:
        # Titles may contain commas and spaces. They are quoted, so that they can be copied into a shell.
        titles = dict.fromkeys(shlex.quote(one.task) for one in shared)
        raise ArtifactError(f"these runs have no task called `{task}` in common. {choices(task, titles)}")
    return selected


def _spoken(
    run: str, question: Question, subjects: Mapping[str, list[ProbeScore]], subject: str | None, view: str | None
) -> ProbeScore:
    """Select the score of a run that enters the ensemble."""
    ours = pretrained(subjects)
    name = subject or (ours[-1] if ours else "")
    if name not in subjects:
        what = f"no subject `{subject}`" if subject else "no pre-trained encoder"
        raise ArtifactError(
            f"{run}: {question} has scores of {what}; give one with --subject. {choices(name, list(subjects))}"
        )
    views = {score.view: score for score in subjects[name]}
    chosen = views.get(view) if view else best_view(subjects[name])
    if chosen is None:
        what = f"no view `{view}` of {name}" if view else f"no validation score to select a view of {name}"
        raise ArtifactError(f"{run}: {question} has {what}; give one with --view. {choices(view or '', list(views))}")
    return chosen


def _together(question: Question, members: Mapping[str, ProbeScore]) -> dict[str, ProbeScore]:
    found = {run: _read(run, score) for run, score in members.items()}
    (name, first), *others = found.items()
    for run, other in others:
        if difference := _difference(first, other):
            raise ArtifactError(
                f"{question}: {run} {difference} {name}; an ensemble needs runs with the same evaluation"
            )
    mean = np.mean([one.probabilities for one in found.values()], axis=0)
    score = score_view(
        f"mean of {len(found)}", first.truth, mean, multi_label=first.multi_label, seed=0, chosen={}, folds=first.folds
    )
    if score.metric != question.metric:
        raise ArtifactError(
            f"{question} has the metric {question.metric}, but an ensemble supports only {score.metric}"
        )
    return {**members, ENSEMBLE: ProbeScore(question.task, question.corpus, ENSEMBLE, **asdict(score))}


def _difference(one: Predictions, other: Predictions) -> str:
    if one.corpus != other.corpus:
        return "uses another version of the corpus than"
    if not np.array_equal(one.clips, other.clips):
        return "uses other test clips than"
    same = np.array_equal(one.truth, other.truth) and one.multi_label == other.multi_label
    return "" if same else "has other labels for the test clips than"


def _read(run: str, score: ProbeScore) -> Predictions:
    """Read the predictions behind a score, as probabilities."""
    assert score.stage is not None  # scores of a record have a stage
    artifact = Artifact(score.stage.folder)
    try:
        about = artifact.read_json("scores.json")
        with np.load(artifact.file(PREDICTIONS), allow_pickle=False) as file:
            return Predictions(
                corpus=score.stage.card["config"]["corpus"]["corpus"],
                clips=file["clips"],
                truth=file["truth"],
                probabilities=_probabilities(file[f"scores/{score.view}"], about["scale"], about["multi_label"]),
                multi_label=about["multi_label"],
                folds=file.get("folds"),
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{run}: the predictions of `{score.stage.name}` cannot be read ({error!r}); run the experiment again"
        ) from None


def _probabilities(scores: npt.NDArray[np.float32], scale: str | None, multi_label: bool) -> npt.NDArray[np.float64]:
    """Convert predictions to probabilities: (clips, classes)."""
    if scale not in ("logits", "probabilities"):
        raise ArtifactError("the predictions cannot be averaged: the task must state `logits` or `probabilities`")
    given = scores.astype(np.float64)
    if scale == "probabilities":
        return given
    return np.asarray(expit(given) if multi_label else softmax(given, axis=1))
