"""The outcome of a run in a few sentences.

Notable choices:

- The last iteration represents the run.
- A gain that a control also reaches is never attributed to the teacher. Without a control, the text says that the
  question is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .verdict import CANNOT_TELL, PHRASES, Against, Verdict, Word, called, final_verdicts


@dataclass(frozen=True)
class _Tally:
    """The findings against one baseline, a word for every question."""

    against: Against
    other: str
    words: list[Word]

    @property
    def agreed(self) -> Word | None:
        """The word of all questions; None if they differ."""
        return self.words[0] if len(set(self.words)) == 1 else None


def headline(found: Sequence[Verdict]) -> str:
    """Summarise the outcome of a run.

    One sentence lists the findings that all questions share, further sentences list those that differ. The last
    sentence says whether the gain can be attributed to the teacher or the tokens.
    """
    last = final_verdicts(found)
    if not last:
        return "No probe has scored a pre-trained encoder of this run, so there is no outcome."
    tallies = _tallies(last)
    subject = last[0].subject[:1].upper() + last[0].subject[1:]
    if not tallies:
        return f"{subject} cannot be compared: the run has no probe of the untrained encoder."
    sentences = [_agreed([tally for tally in tallies if tally.agreed])]
    sentences += [_mixed(tally) for tally in tallies if not tally.agreed]
    text = [sentence for sentence in sentences if sentence]
    text = [f"{'It' if place else subject} {sentence}." for place, sentence in enumerate(text)]
    if not any(tally.against == "start" for tally in tallies):
        text.append("The run has no probe of the untrained encoder to compare with.")
    return " ".join([*text, *_meaning(last)])


def _tallies(last: Iterable[Verdict]) -> list[_Tally]:
    found: dict[tuple[Against, str], _Tally] = {}
    for verdict in last:
        if verdict.other:
            tally = found.setdefault((verdict.against, verdict.other), _Tally(verdict.against, verdict.other, []))
            tally.words.append(verdict.word)
    return list(found.values())


def _agreed(tallies: Sequence[_Tally]) -> str:
    """Describe the findings that agree: `is above A and B, but cannot be told from C`; empty without tallies."""
    several = any(len(tally.words) > 1 for tally in tallies)
    clauses: dict[Word, str] = {}
    for word, phrase in PHRASES.items():
        others = [called(tally.against, tally.other) for tally in tallies if tally.agreed == word]
        if others:
            where = f" in {'any' if word == CANNOT_TELL else 'every'} comparison" if several else ""
            clauses[word] = f"{phrase} {_listed(others)}{where}"
    above = clauses.pop("above", "")
    return ", but ".join(filter(None, [above, " and ".join(clauses.values())]))


def _mixed(tally: _Tally) -> str:
    """Describe findings that differ: `is above A in 1 of 3 comparisons and below in 1; 1 cannot tell`."""
    above, below, unknown = (tally.words.count(word) for word in ("above", "below", CANNOT_TELL))
    first = "above" if above else "below"
    parts = [f"is {first} {called(tally.against, tally.other)} in {above or below} of {len(tally.words)} comparisons"]
    parts += [f"below in {below}"] if above and below else []
    return " and ".join(parts) + (f"; {unknown} cannot tell" if unknown else "")


def _meaning(last: Sequence[Verdict]) -> list[str]:
    """Say what the gain can be attributed to, if there is one.

    The gain is over the previous iteration or, without one, over the start.
    """
    over = "previous" if any(verdict.against == "previous" for verdict in last) else "start"
    gains = [verdict for verdict in last if verdict.against == over and verdict.word == "above"]
    taught = any(verdict.ours.taught for verdict in last if verdict.ours)
    controls = [verdict for verdict in last if verdict.against == "control"]
    if not gains:
        return []
    if not controls:
        return ["Without a control it is open whether the gain comes from its teacher."] if taught else []
    reached = {verdict.question for verdict in controls if verdict.word != "above"}
    cause = "its teacher" if taught else "its tokens"
    if not any(gain.question in reached for gain in gains):
        return [f"No control reaches its gain over {called(gains[0].against, gains[0].other)}."]
    if all(gain.question in reached for gain in gains):
        return [f"Its gain cannot be attributed to {cause}."]
    return [f"Where a control may reach it too, its gain cannot be attributed to {cause}."]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
