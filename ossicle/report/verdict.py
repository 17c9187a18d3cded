"""What may honestly be said about an encoder, in words.

Notable choices: the only statistic is whether the 95 % intervals that the tasks computed lie apart. A subject speaks
through the view that scored best on the *validation* clips, never through its best test score. Intervals of the same
clips that overlap do not show that two encoders are equal, only that these clips cannot tell them apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .formats import interval, percent
from .record import ProbeScore

Word = Literal["above", "better", "no worse", "cannot tell", "below"]
Against = Literal["untrained", "log-mel", "previous"]
CANNOT_TELL: Word = "cannot tell"


class Question(NamedTuple):
    """What was asked of several subjects alike."""

    task: str
    corpus: str
    metric: str

    def __str__(self) -> str:
        return f"{self.task} on {self.corpus}"


@dataclass(frozen=True)
class Verdict:
    """One pre-trained encoder against one yardstick.

    Attributes:
        subject: the encoder judged
        against: the kind of yardstick
        other: the yardstick's name in the run; empty if the run has none
        word: the finding
        reason: the figures, or why nothing can be said
        view: the encoder's view that was chosen on the validation split, where there is one
    """

    question: Question
    subject: str
    against: Against
    other: str
    word: Word
    reason: str
    view: str = ""

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        other = f"the {self.other} encoder" if self.against == "untrained" else self.other
        if not self.other:
            return f"{self.question}: {self.reason}"
        if self.word == CANNOT_TELL:
            return f"{self.question}: cannot tell {self.subject} from {other}: {self.reason}"
        return f"{self.question}: {self.subject} is {_PHRASES[self.word]} {other}: {self.reason}"


_PHRASES = {"above": "above", "better": "better than", "no worse": "no worse than", "below": "below"}


def by_question(scores: Iterable[ProbeScore]) -> dict[Question, dict[str, list[ProbeScore]]]:
    """Sort scores by task, corpus and metric, then by subject."""
    found: dict[Question, dict[str, list[ProbeScore]]] = {}
    for score in scores:
        subjects = found.setdefault(Question(score.task, score.corpus, score.metric), {})
        subjects.setdefault(score.subject, []).append(score)
    return found


def role(subject: str) -> Literal["pretrained", "untrained", "log-mel"]:
    """What a subject is in the argument."""
    if subject == "untrained":
        return "untrained"
    return "log-mel" if subject.startswith("log-mel") else "pretrained"


def pretrained(subjects: Iterable[str]) -> list[str]:
    """The pre-trained among `subjects`, the last iteration last."""
    found = dict.fromkeys(subject for subject in subjects if role(subject) == "pretrained")
    return sorted(found, key=lambda subject: [int(number) for number in re.findall(r"\d+", subject)])


def best_view(scores: Sequence[ProbeScore]) -> ProbeScore | None:
    """The view that a subject speaks through: the best on the validation split; None if that cannot be known."""
    if len(scores) == 1:
        return scores[0]
    valid = [score.valid for score in scores]
    if any(value is None or not math.isfinite(value) for value in valid):
        return None
    return max(scores, key=lambda score: score.valid or 0.0, default=None)


def compare(ours: ProbeScore, other: ProbeScore, against: Against) -> tuple[Word, str]:
    """Find the word for two scores, and its reason.

    Intervals apart: `above` (against log-mel: `better`) or `below`. Overlapping: `cannot tell`; against log-mel, whose
    features cost no training, `no worse` if at least our whole interval lies on or above their score.
    """
    figures = f"{_figure(ours)} against {_figure(other)}"
    if ours.clips != other.clips:
        return CANNOT_TELL, f"they were judged on {ours.clips} and {other.clips} test clips"
    if not all(math.isfinite(edge) for edge in (ours.low, ours.high, other.low, other.high)):
        return CANNOT_TELL, f"an interval is missing ({percent(ours.value)} against {percent(other.value)})"
    if ours.low > other.high:
        return "better" if against == "log-mel" else "above", figures
    if ours.high < other.low:
        return "below", figures
    if against == "log-mel" and ours.low >= other.value:
        return "no worse", figures
    return CANNOT_TELL, f"their 95 % intervals overlap ({figures})"


def verdicts(scores: Iterable[ProbeScore]) -> list[Verdict]:
    """Judge every pre-trained subject against the untrained encoder, each log-mel baseline and its predecessor."""
    found = []
    for question, subjects in by_question(scores).items():
        ours = pretrained(subjects)
        for place, subject in enumerate(ours):
            for against, other in _yardsticks(subjects, ours[:place]):
                found.append(_judge(question, subjects, subject, against, other))
    return found


def final_verdicts(found: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts on the last iteration only."""
    ours = pretrained(verdict.subject for verdict in found)
    return [verdict for verdict in found if verdict.subject == ours[-1]] if ours else []


def headline(found: Sequence[Verdict]) -> str:
    """The run's outcome in one or two sentences."""
    last = final_verdicts(found)
    if not last:
        return "No probe has judged a pre-trained encoder of this run, so nothing can be said about it."
    subject = _capital(last[-1].subject)
    sentences = [_tally(subject, "the untrained encoder", [v.word for v in last if v.against == "untrained" and v.other])]
    log_mel = [v.word for v in last if v.against == "log-mel" and v.other]
    if log_mel:
        sentences.append(_tally("It", "log-mel features", log_mel))
    return " ".join(sentences)


def _yardsticks(subjects: Iterable[str], earlier: Sequence[str]) -> list[tuple[Against, str]]:
    found: list[tuple[Against, str]] = [("untrained", "untrained" if "untrained" in subjects else "")]
    found += [("log-mel", subject) for subject in subjects if role(subject) == "log-mel"] or [("log-mel", "")]
    return found + [("previous", subject) for subject in earlier[-1:]]


def _judge(
    question: Question, subjects: dict[str, list[ProbeScore]], subject: str, against: Against, other: str
) -> Verdict:
    mine = best_view(subjects[subject])
    view = mine.view if mine else ""
    if not other:
        what = "untrained encoder" if against == "untrained" else "log-mel baseline"
        return Verdict(question, subject, against, "", CANNOT_TELL, f"the run has no {what} to compare with", view)
    theirs = best_view(subjects[other])
    if mine is None or theirs is None:
        reason = "the views lack the validation score to choose one by"
        return Verdict(question, subject, against, other, CANNOT_TELL, reason, view)
    word, reason = compare(mine, theirs, against)
    return Verdict(question, subject, against, other, word, reason, view)


def _tally(subject: str, other: str, words: Sequence[Word]) -> str:
    if not words:
        return f"{subject} has nothing to be compared with: the run has no probe of {other}."
    said = [(word, words.count(word)) for word in ("above", "better", "no worse", "below") if word in words]
    unknown = words.count(CANNOT_TELL)
    if not said:
        return f"{subject} cannot be told from {other} in {_of(unknown, len(words))}."
    parts = [f"{_PHRASES[word]} {other} in {_of(number, len(words))}" for word, number in said]
    end = f"; {_of(unknown, len(words))} cannot tell" if unknown else ""
    return f"{subject} is {', '.join(parts)}{end}."


def _of(number: int, total: int) -> str:
    if number < total:
        return f"{number} of {total}"
    return {1: "the one probe", 2: "both probes"}.get(total, f"all {total} probes")


def _figure(score: ProbeScore) -> str:
    return f"{percent(score.value)} [{interval(score.low, score.high)}]"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
