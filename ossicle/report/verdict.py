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
        reason: why nothing can be said; empty where something can
        ours, theirs: the scores compared, where each is known
    """

    question: Question
    subject: str
    against: Against
    other: str
    word: Word
    reason: str = ""
    ours: ProbeScore | None = None
    theirs: ProbeScore | None = None

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        if not self.other:
            return f"{self.question}: {self.reason}"
        other = f"the {self.other} encoder" if self.against == "untrained" else self.other
        link = f"cannot be told from {other}" if self.word == CANNOT_TELL else f"is {_PHRASES[self.word]} {other}"
        tail = f" ({self.reason})" if self.reason else ""
        return f"{self.question}: {self.subject} {link}, {figure(self.ours)} against {figure(self.theirs)}{tail}"


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
    """Find the word for two scores, and the reason where nothing can be said.

    Intervals apart: `above` (against log-mel: `better`) or `below`. Overlapping: `cannot tell`; against log-mel, whose
    features cost no training, `no worse` if at least our whole interval lies on or above their score.
    """
    if ours.clips != other.clips:
        return CANNOT_TELL, f"judged on {ours.clips} and on {other.clips} test clips"
    if not all(math.isfinite(edge) for edge in (ours.low, ours.high, other.low, other.high)):
        return CANNOT_TELL, "an interval is missing"
    if ours.low > other.high:
        return ("better" if against == "log-mel" else "above"), ""
    if ours.high < other.low:
        return "below", ""
    if against == "log-mel" and ours.low >= other.value:
        return "no worse", ""
    return CANNOT_TELL, "the intervals overlap"


def figure(score: ProbeScore | None) -> str:
    """A score with its interval: `61.2 % [56.3–66.0]`."""
    return f"{percent(score.value)} [{interval(score.low, score.high)}]" if score else "–"


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
    sentences = [
        _tally(subject, "the untrained encoder", [v.word for v in last if v.against == "untrained" and v.other])
    ]
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
    ours, theirs = best_view(subjects[subject]), best_view(subjects.get(other, []))
    if not other:
        what = "untrained encoder" if against == "untrained" else "log-mel baseline"
        word, reason = CANNOT_TELL, f"the run has no {what} to compare with"
    elif ours is None or theirs is None:
        word, reason = CANNOT_TELL, "the views lack the validation score to choose one by"
    else:
        word, reason = compare(ours, theirs, against)
    return Verdict(question, subject, against, other, word, reason, ours, theirs)


def _tally(subject: str, other: str, words: Sequence[Word]) -> str:
    if not words:
        return f"{subject} has nothing to be compared with: the run has no probe of {other}."
    said = [(word, words.count(word)) for word in ("above", "better", "no worse", "below") if word in words]
    unknown = words.count(CANNOT_TELL)
    if not said:
        return f"{subject} cannot be told from {other} in {_of(unknown, len(words))}."
    word, number = said[0]
    parts = [f"{_PHRASES[word]} {other} in {_of(number, len(words))}"]
    parts += [f"{word} in {number}" for word, number in said[1:]]
    end = f"; {unknown} cannot tell" if unknown else ""
    return f"{subject} is {' and '.join(parts)}{end}."


def _of(number: int, total: int) -> str:
    if number < total:
        return f"{number} of {total} comparisons"
    return {1: "the one comparison", 2: "both comparisons"}.get(total, f"all {total} comparisons")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
