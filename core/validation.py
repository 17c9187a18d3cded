"""From pydantic's errors to sentences of our own, each with the place in the YAML that must be mended."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .config import CHECKPOINT, PROBLEM, UNKNOWN, Config, PartChoice, is_checkpoint
from .documents import Document
from .errors import ConfigError, Location, Problem
from .fields import config_at
from .nodes import NodePath
from .wording import choices, dotted, given

if TYPE_CHECKING:
    from .catalog import Catalog

_WANTED = {
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


@dataclass
class _Found:
    """One error of pydantic's; `wanted` lets the branches of a union join in one sentence."""

    path: NodePath
    where: Location
    message: str
    wanted: str = ""


def problems_of(error: ValidationError, model: type[Config], document: Document, catalog: Catalog) -> list[Problem]:
    """Say every error of a validated document in plain words, with its place.

    Args:
        model: what the document was validated as
        catalog: what its parts were looked up in
    """
    found: list[_Found] = []
    for details in error.errors(include_url=False):
        if _follows_from_another(details):
            continue
        item = _found(details, model, document, catalog)
        earlier = next((one for one in found if one.wanted and item.wanted and one.path == item.path), None)
        if earlier is None:
            found.append(item)
        elif item.wanted not in earlier.wanted.split(" or "):
            earlier.wanted += f" or {item.wanted}"
            earlier.message = _unfit(item.path, earlier.wanted, details["input"])
    return [Problem(item.where, item.message) for item in found]


def in_reading_order(problems: Sequence[Problem], source: str) -> list[Problem]:
    """Sort problems by their place, those of the file `source` first."""

    def place(problem: Problem) -> tuple[bool, str, int, int]:
        where = problem.where
        if isinstance(where, Location):
            return where.source != source, where.source, where.line, where.column
        return where != source, where, 0, 0

    return sorted(problems, key=place)


def with_options(choice: PartChoice, options: Mapping[str, Any], catalog: Catalog | None = None) -> PartChoice:
    """The same part with some of its configuration replaced.

    Args:
        catalog: where parts that the configuration names are looked up

    Raises:
        ConfigError: if the part has no such option, or its value does not fit
    """
    fields = type(choice.config).model_fields
    where = f"{choice.kind} `{choice.name}`"
    unknown = [name for name in options if name not in fields]
    if unknown:
        raise ConfigError([Problem(where, f"there is no option `{name}`. {choices(name, fields)}") for name in unknown])
    try:
        return PartChoice.of(choice.part, choice.config.model_dump(mode="json") | dict(options), catalog=catalog)
    except ValidationError as error:
        raise ConfigError(
            [Problem(where, _in_short(details)) for details in error.errors(include_url=False)]
        ) from error


def _in_short(details: ErrorDetails) -> str:
    path, kind = details["loc"], details["type"]
    if kind in _WANTED:
        return _unfit(path, _WANTED[kind].format(**details.get("ctx", {})), details["input"])
    return _in_own_words(path, kind, details)


def _found(details: ErrorDetails, model: type[Config], document: Document, catalog: Catalog) -> _Found:
    path, rest = _split(details["loc"], document.tree)
    kind, value, place = details["type"], details["input"], document.place(path)
    context = details.get("ctx", {})
    if kind == "missing":
        return _Found(path, place.key, _missing(path, details["loc"][-1]))
    if kind == "extra_forbidden":
        owner = config_at(model, path[:-1], document.tree, catalog)
        first = _first_keys(path[:-1], document.tree)
        known = owner.model_fields if owner and first != [CHECKPOINT] else {}
        allowed = dict.fromkeys([*first, *(field.alias or name for name, field in known.items())])
        return _Found(path, place.key, f"unknown key `{path[-1]}`. {choices(str(path[-1]), allowed)}")
    named = (*path, *(str(key) for key in rest)) if not _is_written(path, value, document.tree) else path
    if kind == "literal_error":
        return _Found(path, place.value, _not_among(named, value, context["expected"]))
    if kind in ("too_short", "too_long"):
        return _Found(path, place.value, _wrong_length(named, context))
    if kind in _WANTED:
        wanted = _WANTED[kind].format(**context)
        return _Found(path, place.value, _unfit(named, wanted, value), wanted)
    where = document.place((*path, "type")).value if kind == UNKNOWN else place.value
    return _Found(path, where, _in_own_words(named, kind, details))


def _follows_from_another(details: ErrorDetails) -> bool:
    """Whether pydantic only finds a list too short because it does not count the items that are wrong themselves."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _split(loc: Sequence[str | int], tree: Any) -> tuple[NodePath, NodePath]:
    """Part pydantic's location in what is written in the file, and the rest: names of union branches, missing keys."""
    path: list[str | int] = []
    rest: list[str | int] = []
    for key in loc:
        is_key = isinstance(tree, dict) and key in tree
        if is_key or (isinstance(tree, list) and isinstance(key, int) and key < len(tree)):
            tree = tree[key]
            path.append(key)
        else:
            rest.append(key)
    return tuple(path), tuple(rest)


def _is_written(path: NodePath, value: Any, tree: Any) -> bool:
    """Whether the offending value is what the file says at the path, and not a default below it."""
    for key in path:
        tree = tree[key]
    return bool(tree == value) or isinstance(value, dict)


def _first_keys(path: NodePath, tree: Any) -> list[str]:
    for key in path:
        tree = tree[key]
    if not path:
        return ["base"]
    if is_checkpoint(tree):
        return [CHECKPOINT]
    return ["type"] if isinstance(tree, dict) and "type" in tree else []


def _missing(path: NodePath, key: str | int) -> str:
    if isinstance(key, int):
        return f"`{dotted(path)}` needs more items: there is no item {key}"
    return f"`{key}` is missing from `{dotted(path)}`" if path else f"`{key}` is missing"


def _not_among(path: NodePath, value: Any, expected: str) -> str:
    quoted = re.findall(r"'([^']*)'", expected)
    allowed = quoted or re.split(r", | or ", expected)
    return f"`{dotted(path)}` cannot be {given(value)}. {choices(str(value), allowed)}"


def _wrong_length(path: NodePath, context: dict[str, Any]) -> str:
    bound = f"at least {context['min_length']}" if "min_length" in context else f"at most {context['max_length']}"
    return f"`{dotted(path)}` must have {bound} items, but has {context['actual_length']}"


def _unfit(path: NodePath, wanted: str, value: Any) -> str:
    return f"`{dotted(path)}` must be {wanted}, but is {given(value)}{_remedy(wanted, value)}"


def _remedy(wanted: str, value: Any) -> str:
    """What to write instead, where it is plain: a number without quotes, a whole number without a fraction."""
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


def _in_own_words(path: NodePath, kind: str, details: ErrorDetails) -> str:
    """What a validator of a configuration said, or whatever else pydantic has to say."""
    cause = details.get("ctx", {}).get("error")
    message = str(cause) if kind in ("value_error", "assertion_error") and cause is not None else details["msg"]
    if kind == UNKNOWN or not path:
        return message
    return f"`{dotted(path)}`{' ' if kind == PROBLEM or message.startswith('must ') else ': '}{message}"
