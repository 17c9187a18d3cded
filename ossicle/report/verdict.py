"""The verdict on an encoder, in words.

Notable choices:

- Encoders are scored on the same test clips and compared clip by clip. The word depends on whether the 95 % interval of
  the difference excludes zero. If the predictions are missing, it depends on whether the two intervals overlap.
- Each subject is represented by the view with the best score on the *validation* clips, never by its best test score.
- "Cannot tell" does not mean that two encoders are equal, only that these clips do not show a difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .formats import interval, percent, points, span
from .paired import Difference, difference
from .record import ProbeScore

Word = Literal["above", "cannot tell", "below"]
Against = Literal["start", "log-mel", "previous", "control"]
CANNOT_TELL: Word = "cannot tell"
PHRASES: dict[Word, str] = {"above": "is above", CANNOT_TELL: "cannot be told from", "below": "is below"}


class Question(NamedTuple):
    """A task, a corpus and a metric that several subjects are compared by."""

    task: str
    corpus: str
    metric: str

    def __str__(self) -> str:
        return f"{self.task} on {self.corpus}"


@dataclass(frozen=True)
class Verdict:
    """The comparison of the encoder of one iteration with one baseline.

    Attributes:
        subject: the encoder
        against: the kind of baseline
        other: the name of the baseline in the run; empty if the run has none
        word: the finding
        reason: the reason for "cannot tell"; empty for other findings
        ours, theirs: the compared scores, if known
        difference: the first minus the second score, clip by clip; None if they cannot be paired
    """

    question: Question
    subject: str
    against: Against
    other: str
    word: Word
    reason: str = ""
    ours: ProbeScore | None = None
    theirs: ProbeScore | None = None
    difference: Difference | None = None

    @property
    def yardstick(self) -> str:
        """The name of the baseline, also if the run lacks it."""
        return self.other or ("untrained" if self.against == "start" else self.against)

    @property
    def apart(self) -> bool:
        """Whether the intervals of the two scores do not overlap, which is stricter than a significant difference."""
        if self.ours is None or self.theirs is None:
            return False
        return self.ours.low > self.theirs.high or self.ours.high < self.theirs.low

    @property
    def sentence(self) -> str:
        """The finding in one sentence."""
        if not self.other:
            return f"{self.question}: {self.reason}"
        text = f"{self.question}: {self.subject} {PHRASES[self.word]} {called(self.against, self.other)}, "
        text += f"{figure(self.ours)} against {figure(self.theirs)}"
        if self.difference:
            text += f": {points(self.difference.value)} [{span(self.difference.low, self.difference.high)}], paired"
        notes = [note for note in (self.reason, "intervals apart" if self.apart else "") if note]
        return text + (f" ({'; '.join(notes)})" if notes else "")


def called(against: Against, other: str) -> str:
    """Return the name of a baseline in a sentence."""
    if against == "control":
        return f"its control “{other}”"
    names = {"untrained": "the untrained encoder", "checkpoint": "the checkpoint", "log-mel": "log-mel features"}
    return names.get(other, other)


def by_question(scores: Iterable[ProbeScore]) -> dict[Question, dict[str, list[ProbeScore]]]:
    """Group scores by task, corpus and metric, then by subject."""
    found: dict[Question, dict[str, list[ProbeScore]]] = {}
    for score in scores:
        subjects = found.setdefault(Question(score.task, score.corpus, score.metric), {})
        subjects.setdefault(score.subject, []).append(score)
    return found


def pretrained(subjects: Mapping[str, Sequence[ProbeScore]]) -> list[str]:
    """List the encoders of the iterations, without controls, the last iteration last."""
    return [subject for subject, found in subjects.items() if found[0].role == "iteration"]


def best_view(scores: Sequence[ProbeScore]) -> ProbeScore | None:
    """Select the view that represents a subject: the best on the validation split.

    None if several views exist and one has no validation score.
    """
    if len(scores) == 1:
        return scores[0]
    valid = [score.valid for score in scores]
    if any(value is None or not math.isfinite(value) for value in valid):
        return None
    return max(scores, key=lambda score: score.valid or 0.0, default=None)


def compare(ours: ProbeScore, theirs: ProbeScore, apart: Difference | None = None) -> tuple[Word, str]:
    """Compare two scores: return the word, and the reason if it is "cannot tell".

    Args:
        apart: their difference clip by clip; if None, the two intervals decide
    """
    if ours.clips != theirs.clips:
        return CANNOT_TELL, f"scored on {ours.clips} and on {theirs.clips} test clips"
    if not all(math.isfinite(edge) for edge in (ours.low, ours.high, theirs.low, theirs.high)):
        return CANNOT_TELL, "an interval is missing"
    if apart.low > 0 if apart else ours.low > theirs.high:
        return "above", ""
    if apart.high < 0 if apart else ours.high < theirs.low:
        return "below", ""
    return CANNOT_TELL, "the interval of the difference includes zero" if apart else "the intervals overlap"


def figure(score: ProbeScore | None) -> str:
    """Format a score with its interval: `61.2 % [56.3–66.0]`."""
    return f"{percent(score.value)} [{interval(score.low, score.high)}]" if score else "–"


def verdicts(scores: Iterable[ProbeScore]) -> list[Verdict]:
    """Compare every iteration with its start, log-mel and its predecessor, and the last iteration also with controls.

    Args:
        scores: scores of a run, in the order of a `RunRecord`
    """
    scores = list(scores)
    log_mel_anywhere = any(score.role == "log-mel" for score in scores)
    found = []
    for question, subjects in by_question(scores).items():
        for subject in pretrained(subjects):
            for against, other in _yardsticks(subjects, subject):
                # Fine-tuning has no log-mel baseline, because there is no encoder. It is not missing if other
                # questions have it.
                if other or against == "start" or not log_mel_anywhere:
                    found.append(_judge(question, subjects, subject, against, other))
    return found


def final_verdicts(found: Sequence[Verdict]) -> list[Verdict]:
    """Select the verdicts on the last iteration."""
    ours = list(dict.fromkeys(verdict.subject for verdict in found))
    return [verdict for verdict in found if verdict.subject == ours[-1]]


def _yardsticks(subjects: Mapping[str, Sequence[ProbeScore]], subject: str) -> list[tuple[Against, str]]:
    iterations = pretrained(subjects)
    place = iterations.index(subject)
    roles = {name: scores[0].role for name, scores in subjects.items()}
    found: list[tuple[Against, str]] = [("start", name) for name, role in roles.items() if role == "start"]
    found = found or [("start", "")]
    found += [("log-mel", name) for name, role in roles.items() if role == "log-mel"] or [("log-mel", "")]
    found += [("previous", name) for name in iterations[max(0, place - 1) : place]]
    if subject == iterations[-1]:
        found += [("control", name) for name, role in roles.items() if role == "control"]
    return found


def _judge(
    question: Question, subjects: Mapping[str, Sequence[ProbeScore]], subject: str, against: Against, other: str
) -> Verdict:
    ours, theirs = best_view(subjects[subject]), best_view(subjects.get(other, []))
    apart = None
    if not other:
        what = "untrained encoder" if against == "start" else "log-mel baseline"
        word, reason = CANNOT_TELL, f"the run has no {what} to compare with"
    elif ours is None or theirs is None:
        word, reason = CANNOT_TELL, "no view can be selected, because validation scores are missing"
    else:
        apart = difference(ours, theirs)
        word, reason = compare(ours, theirs, apart)
    return Verdict(question, subject, against, other, word, reason, ours, theirs, apart)
