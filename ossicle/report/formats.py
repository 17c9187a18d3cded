"""Format numbers for readers; shared by the terminal and the HTML report."""

from __future__ import annotations

import math
from datetime import datetime

SPACE = "\N{NO-BREAK SPACE}"


def percent(share: float) -> str:
    """Format 0.612 as `61.2 %`."""
    return f"{100 * share:.1f}{SPACE}%" if math.isfinite(share) else "–"


def interval(low: float, high: float) -> str:
    """Format two shares as `56.3–66.0`."""
    return f"{100 * low:.1f}–{100 * high:.1f}" if math.isfinite(low) and math.isfinite(high) else "no interval"


def points(difference: float) -> str:
    """Format a difference of two shares as `+3.2 points`."""
    return f"{signed(difference)}{SPACE}points"


def span(low: float, high: float) -> str:
    """Format the interval of a difference as `−0.5 to 6.0`."""
    return f"{signed(low, plus='')} to {signed(high, plus='')}"


def signed(share: float, *, plus: str = "+") -> str:
    """Format a difference of two shares in points: `+3.2`."""
    tenths = round(100 * share, 1)
    return f"−{-tenths:.1f}" if tenths < 0 else f"{plus}{abs(tenths):.1f}"


def probability(value: float) -> str:
    """Format a p-value: `0.012`, `< 0.001`."""
    return f"<{SPACE}0.001" if value < 0.001 else f"{value:.3f}"


def information(value: float | None) -> str:
    """Format normalised mutual information as `0.021`."""
    return "–" if value is None else f"{value:.3f}"


def other(name: str, value: float) -> str:
    """Format a further metric with its name: `UAR 61.2 %`. d′ has no percent sign, because it is not a share."""
    return f"d′ {value:.2f}" if name == "d_prime" else f"{name} {percent(value)}"


def duration(seconds: float) -> str:
    """Format seconds as `0.4 s`, `5 min 12 s` or `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}{SPACE}h {minutes:02d}{SPACE}min"
    return f"{minutes}{SPACE}min {rest:02d}{SPACE}s" if minutes else f"{rest}{SPACE}s"


def moment(stamp: str) -> str:
    """Format an ISO time as `2026-11-22 08:00 UTC`. Other text is returned unchanged."""
    try:
        return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M %Z").rstrip()
    except ValueError:
        return stamp


def count(number: int, word: str) -> str:
    """Format a number with its noun: `1 clip`, `1,240 clips`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
