"""Translate pydantic's errors in a configuration into plain sentences."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

from .wording import NodePath, dotted, given

PROBLEM, UNKNOWN = "part_choice", "unknown_part"

WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "empty",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_pattern_mismatch": "text that matches `{pattern}`",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
}
"""What is allowed, for each of pydantic's error types that a rejected value explains."""


def in_short(details: ErrorDetails) -> str:
    """Describe an error of pydantic in one sentence."""
    path, kind = details["loc"], details["type"]
    if kind in WANTED:
        return unfit(path, WANTED[kind].format(**details.get("ctx", {})), details["input"])
    return in_own_words(path, kind, details)


def unfit(path: NodePath, wanted: str, value: Any) -> str:
    """Describe a value that does not meet the requirement `wanted` at its path."""
    return f"`{dotted(path)}` must be {wanted}, but is {given(value)}{_remedy(wanted, value)}"


def _remedy(wanted: str, value: Any) -> str:
    """Suggest what to write instead if it is obvious: a number without quotes, or a whole number without a fraction."""
    if "number" not in wanted or not isinstance(value, str | float):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    whole = number.is_integer() and abs(number) < 1e15
    if "whole" in wanted and not whole:
        return ""
    return f"; write `{int(number) if whole else number}`" + (" without quotes" if isinstance(value, str) else "")


def in_own_words(path: NodePath, kind: str, details: ErrorDetails) -> str:
    """Return the message of a configuration's own validator, or else pydantic's message."""
    cause = details.get("ctx", {}).get("error")
    message = str(cause) if kind in ("value_error", "assertion_error") and cause is not None else details["msg"]
    if kind == UNKNOWN or not path:
        return message
    return f"`{dotted(path)}`{' ' if kind == PROBLEM or message.startswith('must ') else ': '}{message}"
