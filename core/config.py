"""The base of every typed configuration.

Notable choices:

- Configurations are frozen pydantic models that forbid unknown keys and do not coerce types (`"3"` is not a number).
- The docstring under a field is its documentation (`field_docs`).
- Values from a YAML file are validated as JSON, where pydantic's strict mode still converts lists to tuples and text to
  paths.
- A validator is built when it is first used, because one command uses few of all configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from .catalog import Catalog

InputNormalization: TypeAlias = Literal["none", "clip_mean", "clip"]

_JSON = (str, int, float, bool, list, tuple, dict, type(None))


class Config(BaseModel):
    """Base of a part's configuration: frozen, without unknown keys, with a docstring under each field.

    Attributes:
        incidental: fields that do not affect a result, and so do not enter a stage's key
        goes_by_path: whether the display name of the part comes from its `path` instead of its name
    """

    incidental: ClassVar[frozenset[str]] = frozenset()
    goes_by_path: ClassVar[bool] = True

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        defer_build=True,
        validate_default=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=False,
    )

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        """Report what does not fit the other parts of an experiment; nothing by default.

        Args:
            context: the `catalog`, and what the configurations of other parts state by `compatibility_facts`, such as
                `patch_dim` or `bands`
        """
        return []

    def compatibility_facts(self, catalog: Catalog) -> Mapping[str, object]:
        """Return what this configuration adds to the context of `check_compatibility`; nothing by default.

        Args:
            catalog: the experiment's catalog
        """
        return {}

    def for_dry_run(self) -> Self:
        """Return a copy for a dry run, without slow work before the first step. Returns itself by default."""
        return self

    def identity(self) -> Mapping[str, Any]:
        """Return what enters a stage's key: every field that is not incidental."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in self.incidental}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        # By the rules of JSON a `Path` is not text, so only defaults that JSON can express are validated.
        odd = [field for field in cls.model_fields.values() if not isinstance(field.default, _JSON)]
        for field in odd:
            if field.validate_default is None:
                field.validate_default = False


class TokenizerConfig(Config):
    """Base of a tokenizer's configuration. A plain `Config` is enough for one that is drawn or fitted.

    Attributes:
        objective: name of the objective that trains the tokenizer; None if it needs no training
    """

    objective: ClassVar[str | None] = None

    input_normalization: InputNormalization = "none"
    """How the tokenizer normalises the patches that it tokenizes, independently of the encoder's input. `none`: not at
    all. `clip_mean`: subtract each clip's mean per mel bin, so that tokens say what sounds instead of how loud it is.
    `clip`: also divide by each clip's standard deviation per mel bin."""

    @property
    def needs_teacher(self) -> bool:
        """Whether it learns from an encoder."""
        return False


class ObjectiveConfig(Config):
    """Base of an objective's configuration. A plain `Config` is enough for one that learns from tokens.

    Attributes:
        needs_tokenizer: whether it learns from tokens; if not, schedules prepare no tokenizer
    """

    needs_tokenizer: ClassVar[bool] = True
