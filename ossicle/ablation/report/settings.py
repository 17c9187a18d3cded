"""Differences between the configurations of two runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

NAMING = ("name", "seed")
ABSENT = object()


@dataclass(frozen=True)
class Setting:
    """A setting in which two runs differ, with both values as YAML. `–` means that it is not set."""

    path: str
    ours: str
    theirs: str


def differing(ours: str, theirs: str) -> list[Setting] | None:
    """Compare two resolved configurations. Return None if one cannot be read."""
    try:
        one, other = yaml.safe_load(ours), yaml.safe_load(theirs)
    except yaml.YAMLError:
        return None
    if not isinstance(one, dict) or not isinstance(other, dict):
        return None
    found = _differing("", _nameless(one), _nameless(other))
    return [Setting(path, _shown(mine), _shown(yours)) for path, mine, yours in found]


def _nameless(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in NAMING}


def _differing(path: str, ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ. Two parts of different types differ as a whole."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.get("type") == theirs.get("type"):
        for key in dict.fromkeys([*theirs, *ours]):
            yield from _differing(f"{path}.{key}".lstrip("."), ours.get(key, ABSENT), theirs.get(key, ABSENT))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from _differing(f"{path}.{number}", *pair)
    elif ours != theirs:
        yield path, ours, theirs


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "–"
    if isinstance(value, dict):
        value = {key: one for key, one in value.items() if one is not None}
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()
