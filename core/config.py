"""The base of every typed configuration, and `PartChoice`: "a part of this kind", as a field of one.

Notable choices: configurations are frozen pydantic models that forbid unknown keys and never coerce (a string is no
number); the docstring under a field is its documentation, in `ossicle explain` as in the JSON schema.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of a part's configuration: frozen, without unknown keys, with a docstring under each field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        validate_default=True,
        arbitrary_types_allowed=False,
    )
