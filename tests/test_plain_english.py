"""The check for plain English finds the listed phrases and ignores correct uses."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

HITS_IN = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "plain_english.py"))["hits_in"]


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("The user is told anew.", ["told", "anew"]),
        ("A string is no number.", ["is no number"]),
        ("Of these alone, for it is slow.", ["alone", "for it is"]),
        ("There is no part of this name.", []),
        ("It is no longer there.", []),
        ("A clip gives the same output alone and in a batch.", []),
    ],
)
def test_phrases(text: str, phrases: list[str]) -> None:
    assert [hit.phrase for hit in HITS_IN("docs/page.md", text)] == phrases


def test_a_hit_names_its_line_and_the_advice() -> None:
    (hit,) = HITS_IN("core/store.py", "first line\nmade anew")
    assert str(hit) == "core/store.py:2: `anew`. Write: again"


def test_the_acoustics_of_rooms_are_allowed_in_corpora() -> None:
    line = "the reverberation of a room"
    assert not list(HITS_IN("audio/corpora/acoustics.py", line))
    assert list(HITS_IN("core/store.py", line))
