"""Describe a part's configuration for people."""

from __future__ import annotations

import inspect
import json

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .core.catalog import Part


def explain(part: Part) -> str:
    """The part's origin, its documentation, and each field with its type, default and documentation."""
    lines = [f"{part.kind} {part.name}   ({part.origin.describe()})", "", inspect.getdoc(part.config) or "", ""]
    documented = part.target if isinstance(part.target, type) else None
    if documented is not None and documented.__doc__:
        lines[2] = inspect.getdoc(documented) or ""
    for name, field in part.config.model_fields.items():
        lines += [f"  {name}: {_type(part, name)}{_default(field)}", *_wrapped(field.description or ""), ""]
    if not part.config.model_fields:
        lines.append("  (nothing to set)")
    return "\n".join(lines).rstrip()


def _type(part: Part, name: str) -> str:
    annotation = part.config.__annotations__.get(name) or part.config.model_fields[name].annotation
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "  (must be given)" if field.default_factory is None else ""
    default = field.default
    shown = default.model_dump(mode="json") if hasattr(default, "model_dump") else default
    return f" = {json.dumps(shown, default=str)}"


def _wrapped(text: str) -> list[str]:
    return [f"      {line.strip()}" for line in text.splitlines()]
