"""Phrases that messages share: what was given, what was probably meant, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

NodePath: TypeAlias = tuple[str | int, ...]
"""The keys and indices that lead to a value in a tree of mappings and lists."""

_LONGEST = 60


def given(value: Any) -> str:
    """Describe a value from a YAML: text and numbers by their content, everything else by its type.

    >>> given("many"), given(3.5), given(None), given([1])
    ('the text `many`', '`3.5`', 'empty', 'a list')
    """
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{value}`"
    if isinstance(value, str):
        return f"the text `{short(value)}`"
    return "a mapping" if isinstance(value, dict) else "a list"


def short(text: str) -> str:
    """Shorten a text to one line of at most 60 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def choices(word: str, allowed: Iterable[str]) -> str:
    """List the allowed words, and suggest the one that is closest to `word`.

    >>> choices("mel_bin", ["mel_bins", "hop_ms"])
    'Did you mean `mel_bins`? Allowed: mel_bins, hop_ms.'
    """
    from difflib import get_close_matches  # needed only for a message

    names = list(allowed)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    meant = f"Did you mean `{close[0]}`? " if close else ""
    return f"{meant}Allowed: {', '.join(names) or 'none'}."


def dotted(path: Iterable[str | int]) -> str:
    """Format a path as on the command line: `schedule.iterations.0.tokenizer`."""
    return ".".join(str(key) for key in path)
