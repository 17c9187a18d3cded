"""The JSON schema of an experiment's YAML, for editors: completion, documentation on hover, misspelt keys.

Notable choices:

- Only the `type` of a part is required, because a `base:` can give the rest. `ossicle check` reports what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..choices import CHECKPOINT, PLACEHOLDER
from ..experiment import Experiment
from .field_docs import documented

if TYPE_CHECKING:
    from ..catalog import Catalog, Part


def experiment_schema(catalog: Catalog) -> dict[str, Any]:
    """Build the JSON schema of an experiment from the parts in the catalog."""
    schema = _relaxed(documented(Experiment).model_json_schema())
    definitions: dict[str, Any] = {name: _relaxed(item) for name, item in schema.pop("$defs", {}).items()}
    definitions |= {kind: _kind(kind, catalog) for kind in catalog.part_kinds}
    for part in catalog.parts():
        definitions |= _definitions(part)
    schema["properties"]["base"] = {
        "description": "Presets or files to start from, such as `beats/tiny` or `../quickstart.yaml`.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    linked: dict[str, Any] = _linked(schema | {"$defs": definitions})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | linked


def _kind(kind: str, catalog: Catalog) -> dict[str, Any]:
    """Describe a part: only its name, a mapping with `type`, or a mapping that completes that of a base."""
    parts = catalog.parts(kind)
    without_type = {"type": "object", "not": {"required": ["type"]}}
    names = {"enum": [name for part in parts for name in (part.name, *part.aliases)]}
    short = [_CHECKPOINT] if CHECKPOINT in catalog.names(kind) else []
    return {"anyOf": [names, *({"$ref": f"#/$defs/{_reference(part)}"} for part in parts), *short, without_type]}


_CHECKPOINT = {
    "type": "object",
    "properties": {CHECKPOINT: {"type": "string", "description": "A released file, an artifact's folder or a run's."}},
    "required": [CHECKPOINT],
    "additionalProperties": False,
}
"""The shorthand for `{type: checkpoint, path: PATH}`."""


def _definitions(part: Part) -> dict[str, Any]:
    prefix = _reference(part)
    schema = documented(part.config).model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}")
    definitions = {f"{prefix}.{name}": item for name, item in schema.pop("$defs", {}).items()}
    named = {"enum": [part.name, *part.aliases]} if part.aliases else {"const": part.name}
    schema["properties"] = {"type": named} | schema.get("properties", {})
    definitions[prefix] = _relaxed(schema) | {"required": ["type"], "title": part.name, "description": part.summary}
    return {name: _relaxed(item) if name != prefix else item for name, item in definitions.items()}


def _reference(part: Part) -> str:
    return f"{part.kind}.{part.name}"


def _relaxed(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "required"}


def _linked(schema: Any) -> Any:
    """Replace placeholders in configurations by references to the parts of a kind."""
    if isinstance(schema, list):
        return [_linked(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    linked = {key: _linked(value) for key, value in schema.items() if key != PLACEHOLDER}
    if PLACEHOLDER in schema:
        linked["$ref"] = f"#/$defs/{schema[PLACEHOLDER]}"
    return linked
