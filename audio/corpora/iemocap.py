"""IEMOCAP in four emotions: 5,531 utterances of acted dialogues in five sessions (Busso et al., 2008,
doi 10.1007/s10579-008-9076-6).

Notable choices:

- Classes and their order are those of SUPERB's emotion recognition (arXiv 2105.01051): excitement counts as happiness,
  and clips with other labels are left out.
- Every clip is in `train` with its session as the fold, because IEMOCAP has no splits. The two speakers of a session
  occur in no other session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from ..published_corpus_config import IemocapConfig
from .published import Listing, PublishedCorpus, names_in

CLASS_CLIPS = {"neutral": 1708, "happy": 1636, "angry": 1103, "sad": 1084}
CLASSES = tuple(CLASS_CLIPS)
EMOTIONS = {"neu": "neutral", "hap": "happy", "exc": "happy", "ang": "angry", "sad": "sad"}
OTHER_EMOTIONS = frozenset({"fru", "sur", "fea", "dis", "oth", "xxx"})
"""Frustration, surprise, fear, disgust, other, and no agreement among annotators."""
SESSION_CLIPS = {1: 1085, 2: 1023, 3: 1151, 4: 1031, 5: 1241}

_TURN = re.compile(r"\[\d+\.?\d* - \d+\.?\d*\]\t(?P<name>\w+)\t(?P<emotion>\w+)\t\[[^\]]*\]\s*")


class IemocapCorpus(PublishedCorpus):
    """`Session*/dialog/EmoEvaluation/*.txt` and `Session*/sentences/wav/*/*.wav`."""

    title = "IEMOCAP"
    source = "https://sail.usc.edu/iemocap/"
    license = "IEMOCAP's release form: for research, on request, not to be passed on"
    remedy = (
        "Request it from its owners with the release form on https://sail.usc.edu/iemocap/, unpack it, and set `path` "
        "to the folder that contains `Session1` to `Session5` (`IEMOCAP_full_release`)."
    )
    expected: ClassVar[Mapping[str, int]] = {
        "clips": 5531,
        **CLASS_CLIPS,
        **{f"session {session}": clips for session, clips in SESSION_CLIPS.items()},
    }

    def __init__(self, config: IemocapConfig) -> None:
        super().__init__(config.path, partial=config.partial)
        self.config = config

    def read(self) -> Listing:
        """Read the evaluation of every dialogue."""
        listing = Listing(label_names=CLASSES)
        first_lines: dict[str, str] = {}
        for session in SESSION_CLIPS:
            folder = self.path / f"Session{session}"
            for table in names_in(folder / "dialog" / "EmoEvaluation", ".txt"):
                dialogue = Path(table).stem
                recordings = set(names_in(folder / "sentences" / "wav" / dialogue, ".wav"))
                for where, name, emotion in _turns(folder / "dialog" / "EmoEvaluation" / table, listing.problems):
                    if (first := first_lines.setdefault(name, where)) != where:
                        listing.problems.append(f"{where}: `{name}` is already rated at {first}; keep one of them.")
                    elif emotion in EMOTIONS:
                        path = f"Session{session}/sentences/wav/{dialogue}/{name}.wav"
                        _add(listing, path, EMOTIONS[emotion], session, is_there=f"{name}.wav" in recordings)
        return listing

    def nothing_there(self) -> str:
        """Describe that no clip was found, with the paths that were searched."""
        if self.listing.missing:
            return super().nothing_there()
        return f"IEMOCAP: no `Session*/dialog/EmoEvaluation/*.txt` below `{self.path}`. {self.remedy}"


def _turns(table: Path, problems: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield `file:line`, name and emotion of every turn. Other lines are votes of single annotators and comments."""
    with table.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if not line.startswith("["):
                continue
            where, turn = f"{table}:{number}", _TURN.fullmatch(line)
            if turn is None:
                problems.append(
                    f"{where}: `{line.strip()}` is not a turn; expected `[START - END]`, name, emotion and `[V, A, D]` "
                    "with tabs between them."
                )
            elif turn["emotion"] not in EMOTIONS and turn["emotion"] not in OTHER_EMOTIONS:
                allowed = ", ".join(sorted({*EMOTIONS, *OTHER_EMOTIONS}))
                problems.append(f"{where}: unknown emotion `{turn['emotion']}`; allowed: {allowed}.")
            else:
                yield where, turn["name"], turn["emotion"]


def _add(listing: Listing, path: str, label: str, session: int, *, is_there: bool) -> None:
    if is_there:
        listing.add(path, (CLASSES.index(label),), fold=session, groups=("clips", label, f"session {session}"))
    else:
        listing.missing.append(path)
