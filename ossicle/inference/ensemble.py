"""Average what several runs predict for the same test clips, and score the mean.

Notable choices: probabilities are averaged, not logits, for a linear model of another strength has another scale; each
run speaks through its last pre-trained encoder and the view that did best on the validation clips, unless told
otherwise; runs are averaged only if they judged the same clips with the same truth.
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
    """What one run predicts for the test clips of a corpus.

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
    """Score the mean prediction of several runs on every question that all of them answer.

    Args:
        runs: folders of two or more runs
        task: the task to look at; all that the runs share when None
        subject: the encoder of each run; its last pre-trained one when None
        view: the pooling of each run; the best on its validation clips when None

    Returns:
        For each question the score of each run alone, by its folder, and last that of the `ensemble`.

    Raises:
        ArtifactError: if the runs do not answer the same question on the same clips, or do not say what their
            predictions are
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
    """Print a table for each question: each run alone, the ensemble."""
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
        there = [f"{run}: {'; '.join(map(str, found)) or 'none'}" for run, found in answers.items()]
        raise ArtifactError("\n".join(["these runs share no task of theirs. They were judged by:", *there]))
    asked = [one for one in shared if task in (None, one.task)]
    if task is not None and not asked:
        # A title may hold commas and spaces, and is to be copied into a shell.
        titles = dict.fromkeys(shlex.quote(one.task) for one in shared)
        raise ArtifactError(f"these runs share no task called `{task}`. {choices(task, titles)}")
    return asked


def _spoken(
    run: str, question: Question, subjects: Mapping[str, list[ProbeScore]], subject: str | None, view: str | None
) -> ProbeScore:
    """The one score of the run that enters the ensemble."""
    ours = pretrained(subjects)
    name = subject or (ours[-1] if ours else "")
    if name not in subjects:
        what = f"no subject `{subject}`" if subject else "no pre-trained encoder"
        raise ArtifactError(
            f"{run}: {question} has judged {what}; name one by --subject. {choices(name, list(subjects))}"
        )
    views = {score.view: score for score in subjects[name]}
    chosen = views.get(view) if view else best_view(subjects[name])
    if chosen is None:
        what = f"no view `{view}` of {name}" if view else f"no validation score to choose a view of {name} by"
        raise ArtifactError(f"{run}: {question} has {what}; name one by --view. {choices(view or '', list(views))}")
    return chosen


def _together(question: Question, members: Mapping[str, ProbeScore]) -> dict[str, ProbeScore]:
    found = {run: _read(run, score) for run, score in members.items()}
    (name, first), *others = found.items()
    for run, other in others:
        if difference := _difference(first, other):
            raise ArtifactError(f"{question}: {run} {difference} {name}; an ensemble needs runs judged alike")
    mean = np.mean([one.probabilities for one in found.values()], axis=0)
    score = score_view(
        f"mean of {len(found)}", first.truth, mean, multi_label=first.multi_label, seed=0, chosen={}, folds=first.folds
    )
    if score.metric != question.metric:
        raise ArtifactError(f"{question} is judged by {question.metric}, but an ensemble by {score.metric} alone")
    return {**members, ENSEMBLE: ProbeScore(question.task, question.corpus, ENSEMBLE, **asdict(score))}


def _difference(one: Predictions, other: Predictions) -> str:
    if one.corpus != other.corpus:
        return "judges on another version of the corpus than"
    if not np.array_equal(one.clips, other.clips):
        return "judges on other test clips than"
    same = np.array_equal(one.truth, other.truth) and one.multi_label == other.multi_label
    return "" if same else "has other labels for the test clips than"


def _read(run: str, score: ProbeScore) -> Predictions:
    """Read the predictions behind a score, as probabilities."""
    assert score.stage is not None  # a record's scores name their stage
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
    """(clips, classes) predictions as probabilities."""
    if scale not in ("logits", "probabilities"):
        raise ArtifactError("the task does not say whether it predicts logits or probabilities, so nothing is averaged")
    given = scores.astype(np.float64)
    if scale == "probabilities":
        return given
    return np.asarray(expit(given) if multi_label else softmax(given, axis=1))
