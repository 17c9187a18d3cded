"""Describe the configuration of a part, or a kind of part, as text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from .core.catalog import Catalog, Part
from .core.choices import ChoiceOf
from .core.config import Config
from .core.config_files.field_docs import configs_in, documented
from .core.errors import PluginError
from .core.part_kinds import PartKind
from .core.stages import Stage


def explain(part: Part) -> str:
    """Describe a part: its origin, its documentation, and each field with type, default and documentation."""
    owner = part.target if isinstance(part.target, type) and part.target.__doc__ else part.config
    also = "".join(f", formerly {alias}" for alias in part.aliases)
    lines = [f"{part.kind} {part.name}{also}   ({part.origin.describe()})", "", inspect.getdoc(owner) or "", ""]
    lines += _fields(documented(part.config), "  ") or ["  (nothing to set)"]
    return "\n".join(lines).rstrip()


def explain_kind(catalog: Catalog, name: str) -> str:
    """Describe a kind of part: its origin, its documentation, its interface and its parts.

    Raises:
        PluginError: if no plugin provides the kind
    """
    kind = catalog.part_kind(name)
    return "\n".join(
        [
            f"{kind.name}   ({kind.origin.describe()})",
            "",
            kind.summary,
            "",
            f"  interface: {interface_of(kind)}",
            f"  parts: {', '.join(catalog.names(name)) or 'none'}",
        ]
    )


def explain_stages(catalog: Catalog) -> str:
    """Describe what a stage is, and list the kinds of stages."""
    names = ", ".join(sorted(catalog.stage_kinds))
    return "\n".join([summary_of_stage(Stage), "", f"  kinds: {names}"])


def explain_stage(catalog: Catalog, name: str) -> str:
    """Describe a kind of stage: its origin, its documentation with its settings, its action and its flags.

    Raises:
        PluginError: if no plugin offers it
    """
    if name not in catalog.stage_kinds:
        raise PluginError(catalog.unknown("kind of stage", name, catalog.stage_kinds))
    stage, origin = catalog.stage_kinds[name]
    lines = [f"stage {name}   ({origin.describe()})", "", inspect.getdoc(stage) or "", "", f"  action: {stage.action}"]
    if flags := stage.flags():
        lines.append(f"  flags: {', '.join(flags)}")
    return "\n".join(lines)


def summary_of_stage(stage: type[Stage]) -> str:
    """Return the first line of the documentation of a kind of stage. Empty if it has no docstring."""
    own = vars(stage).get("__doc__") or ""
    # A dataclass without a docstring gets its signature as one.
    return "" if own.startswith(f"{stage.__name__}(") else inspect.cleandoc(own).partition("\n")[0]


def interface_of(kind: PartKind) -> str:
    """Return the import path of the interface of a kind of part."""
    if isinstance(kind.interface, str):
        return kind.interface.replace(":", ".")
    return f"{kind.interface.__module__}.{kind.interface.__qualname__}"


def _fields(config: type[Config], indent: str) -> list[str]:
    """Describe every field of a configuration, and with more indent the fields of nested configurations."""
    lines = []
    for name, field in config.model_fields.items():
        within = configs_in(field.annotation)
        # The fields of a nested configuration show their own defaults below.
        default = _default(field) if not within or field.is_required() else ""
        lines.append(f"{indent}{name}: {_type(field)}{default}")
        lines += [f"{indent}    {line.strip()}" for line in (field.description or "").splitlines()]
        lines += ["", *(line for inner in within for line in _fields(inner, indent + "    "))]
        if lines[-1]:
            lines.append("")
    return lines


def _type(field: FieldInfo) -> str:
    """Describe the type and bounds of a field: `whole number >= 1`, `one of "tiny", "small"`."""
    bounds = [f"{sign} {value}" for name, sign in _SIGNS.items() for value in _bounds(field, name)]
    words, empty, _ = _words(field.annotation, field.metadata).partition(" or empty")
    return " ".join([words, " and ".join(bounds)]).rstrip() + empty


_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "a multiple of"}
_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", type(None): "empty"}


def _bounds(field: FieldInfo, name: str) -> list[object]:
    return [getattr(item, name) for item in field.metadata if getattr(item, name, None) is not None]


def _words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    choice = next((item for item in metadata if isinstance(item, ChoiceOf)), None)
    if choice is not None:
        return f"{choice.kind.replace('_', ' ')} (a part)"
    if origin is Annotated:
        return _words(arguments[0], arguments[1:])
    if origin is Literal:
        return f"one of {', '.join(json.dumps(value) for value in arguments)}"
    if origin in (Union, UnionType):
        return " or ".join(_words(argument) for argument in arguments)
    if origin in (tuple, list):
        return f"list of {_words(arguments[0])}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, Config)):
        return "mapping"
    return _WORDS.get(annotation, inspect.formatannotation(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "; must be given"
    default = field.get_default(call_default_factory=True)
    shown = default.model_dump(mode="json") if isinstance(default, Config) else default
    return f"; default {json.dumps(shown, default=str)}"
