"""Translate pydantic's errors into plain sentences, each with its location in the YAML file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..choices import CHECKPOINT, is_checkpoint
from ..config import Config
from ..config_errors import UNKNOWN, WANTED, in_own_words, unfit
from ..errors import Location, Problem
from ..wording import NodePath, choices, dotted, given
from .config_lookup import config_at
from .documents import Document

if TYPE_CHECKING:
    from ..catalog import Catalog


@dataclass
class _Found:
    """One error of pydantic. `wanted` joins the branches of a union in one sentence."""

    path: NodePath
    where: Location
    message: str
    wanted: str = ""


def problems_of(error: ValidationError, model: type[Config], document: Document, catalog: Catalog) -> list[Problem]:
    """Describe every error of a validated document in plain words, with its location.

    Args:
        model: what the document was validated as
        catalog: the catalog of its parts
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
            earlier.message = unfit(item.path, earlier.wanted, details["input"])
    return [Problem(item.where, item.message) for item in found]


def in_reading_order(problems: Sequence[Problem], source: str) -> list[Problem]:
    """Sort problems by location, those of the file `source` first."""

    def location(problem: Problem) -> tuple[bool, str, int, int]:
        where = problem.where
        if isinstance(where, Location):
            return where.source != source, where.source, where.line, where.column
        return where != source, where, 0, 0

    return sorted(problems, key=location)


def _found(details: ErrorDetails, model: type[Config], document: Document, catalog: Catalog) -> _Found:
    path, rest = _split(details["loc"], document.tree)
    kind, value, span = details["type"], details["input"], document.span(path)
    context = details.get("ctx", {})
    if kind == "missing":
        return _Found(path, span.key, _missing(path, details["loc"][-1]))
    if kind == "extra_forbidden":
        owner = config_at(model, path[:-1], document.tree, catalog)
        first = _first_keys(path[:-1], document.tree)
        known = owner.model_fields if owner and first != [CHECKPOINT] else {}
        allowed = dict.fromkeys([*first, *(field.alias or name for name, field in known.items())])
        return _Found(path, span.key, f"unknown key `{path[-1]}`. {choices(str(path[-1]), allowed)}")
    named = (*path, *(str(key) for key in rest)) if not _is_written(path, value, document.tree) else path
    if kind == "literal_error":
        return _Found(path, span.value, _not_among(named, value, context["expected"]))
    if kind in ("too_short", "too_long"):
        return _Found(path, span.value, _wrong_length(named, context))
    if kind in WANTED:
        wanted = WANTED[kind].format(**context)
        return _Found(path, span.value, unfit(named, wanted, value), wanted)
    where = document.span((*path, "type")).value if kind == UNKNOWN else span.value
    return _Found(path, where, in_own_words(named, kind, details))


def _follows_from_another(details: ErrorDetails) -> bool:
    """Return whether a list is too short only because pydantic does not count its invalid items."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _split(loc: Sequence[str | int], tree: Any) -> tuple[NodePath, NodePath]:
    """Split pydantic's location into the part written in the file and the rest (union branches, missing keys)."""
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
    """Return whether the invalid value is written at the path, and is not a default below it."""
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
