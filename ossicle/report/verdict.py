"""What may honestly be said about an encoder, in words.

Notable choices: encoders are scored on the same test clips and compared clip by clip; the word follows from whether the
95 % interval of that difference leaves out zero, or, where the predictions are gone, from whether the two intervals lie
apart. A subject speaks through the view that scored best on the *validation* clips, never through its best test score.
"Cannot tell" does not mean that two encoders are equal, only that these clips do not show a difference.
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
    """What was asked of several subjects alike."""

    task: str
    corpus: str
    metric: str

    def __str__(self) -> str:
        return f"{self.task} on {self.corpus}"


@dataclass(frozen=True)
class Verdict:
    """One iteration's encoder against one yardstick.

    Attributes:
        subject: the encoder judged
        against: the kind of yardstick
        other: the yardstick's name in the run; empty if the run has none
        word: the finding
        reason: why nothing can be said; empty where something can
        ours, theirs: the scores compared, where each is known
        difference: the first minus the second, clip by clip; None where they cannot be paired
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
        """The name of the yardstick, also of one that the run lacks."""
        return self.other or ("untrained" if self.against == "start" else self.against)

    @property
    def apart(self) -> bool:
        """Whether the intervals of the two scores lie apart, which is more than a difference."""
        if self.ours is None or self.theirs is None:
            return False
        return self.ours.low > self.theirs.high or self.ours.high < self.theirs.low

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        if not self.other:
            return f"{self.question}: {self.reason}"
        said = f"{self.question}: {self.subject} {PHRASES[self.word]} {called(self.against, self.other)}, "
        said += f"{figure(self.ours)} against {figure(self.theirs)}"
        if self.difference:
            said += f": {points(self.difference.value)} [{span(self.difference.low, self.difference.high)}], paired"
        notes = [note for note in (self.reason, "intervals apart" if self.apart else "") if note]
        return said + (f" ({'; '.join(notes)})" if notes else "")


def called(against: Against, other: str) -> str:
    """What a sentence calls a yardstick."""
    if against == "control":
        return f"its control “{other}”"
    names = {"untrained": "the untrained encoder", "checkpoint": "the checkpoint", "log-mel": "log-mel features"}
    return names.get(other, other)


def by_question(scores: Iterable[ProbeScore]) -> dict[Question, dict[str, list[ProbeScore]]]:
    """Sort scores by task, corpus and metric, then by subject."""
    found: dict[Question, dict[str, list[ProbeScore]]] = {}
    for score in scores:
        subjects = found.setdefault(Question(score.task, score.corpus, score.metric), {})
        subjects.setdefault(score.subject, []).append(score)
    return found


def pretrained(subjects: Mapping[str, Sequence[ProbeScore]]) -> list[str]:
    """The encoders that iterations made, controls left out, the last iteration last."""
    return [subject for subject, found in subjects.items() if found[0].role == "iteration"]


def best_view(scores: Sequence[ProbeScore]) -> ProbeScore | None:
    """The view that a subject speaks through: the best on the validation split; None if that cannot be known."""
    if len(scores) == 1:
        return scores[0]
    valid = [score.valid for score in scores]
    if any(value is None or not math.isfinite(value) for value in valid):
        return None
    return max(scores, key=lambda score: score.valid or 0.0, default=None)


def compare(ours: ProbeScore, theirs: ProbeScore, apart: Difference | None = None) -> tuple[Word, str]:
    """Find the word for two scores, and the reason where nothing can be said.

    Args:
        apart: their difference clip by clip; without it, intervals apart decide
    """
    if ours.clips != theirs.clips:
        return CANNOT_TELL, f"judged on {ours.clips} and on {theirs.clips} test clips"
    if not all(math.isfinite(edge) for edge in (ours.low, ours.high, theirs.low, theirs.high)):
        return CANNOT_TELL, "an interval is missing"
    if apart.low > 0 if apart else ours.low > theirs.high:
        return "above", ""
    if apart.high < 0 if apart else ours.high < theirs.low:
        return "below", ""
    return CANNOT_TELL, "the difference may be none" if apart else "the intervals overlap"


def figure(score: ProbeScore | None) -> str:
    """A score with its interval: `61.2 % [56.3–66.0]`."""
    return f"{percent(score.value)} [{interval(score.low, score.high)}]" if score else "–"


def verdicts(scores: Iterable[ProbeScore]) -> list[Verdict]:
    """Judge every iteration against where it starts, log-mel and its predecessor; the last one against controls too.

    Args:
        scores: of a run, in the order of a `RunRecord`
    """
    scores = list(scores)
    log_mel_anywhere = any(score.role == "log-mel" for score in scores)
    found = []
    for question, subjects in by_question(scores).items():
        for subject in pretrained(subjects):
            for against, other in _yardsticks(subjects, subject):
                # Features without an encoder cannot be fine-tuned: where other questions have them, nothing is missing.
                if other or against == "start" or not log_mel_anywhere:
                    found.append(_judge(question, subjects, subject, against, other))
    return found


def final_verdicts(found: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts on the last iteration only."""
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
        word, reason = CANNOT_TELL, "the views lack the validation score to choose one by"
    else:
        apart = difference(ours, theirs)
        word, reason = compare(ours, theirs, apart)
    return Verdict(question, subject, against, other, word, reason, ours, theirs, apart)
