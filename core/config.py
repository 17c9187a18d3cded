"""The base of every typed configuration, and `PartChoice`: "a part of this kind", as a field of one.

Notable choices: configurations are frozen pydantic models that forbid unknown keys and never coerce (a string is no
number); the docstring under a field is its documentation (`field_docs`). Values from a YAML are validated as JSON,
where strictness still turns lists into tuples and text into paths. A validator is built when it is first used, because
one command uses few of all configurations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .wording import choices, given

if TYPE_CHECKING:
    from .catalog import Catalog, Origin, Part


_JSON = (str, int, float, bool, list, tuple, dict, type(None))


class Config(BaseModel):
    """Base of a part's configuration: frozen, without unknown keys, with a docstring under each field.

    Attributes:
        incidental: fields that do not decide a result, and so do not enter a stage's key
        goes_by_path: whether people call the part by what its `path` points at, if it has one, and not by its name
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

    def problems(self, facts: Mapping[str, object]) -> list[str]:
        """Say what does not fit the other parts of an experiment; nothing by default.

        Args:
            facts: what other parts' configurations say, such as `patch_dim` or `bands`
        """
        return []

    def facts(self) -> Mapping[str, object]:
        """What this configuration tells those of other parts; nothing by default."""
        return {}

    def rehearsed(self) -> Self:
        """The same for a dry run, without what takes long before the first step; itself by default."""
        return self

    def identity(self) -> Mapping[str, Any]:
        """What enters a stage's key: every field that is not incidental."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in self.incidental}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        # Held against JSON's rules, a `Path` is no text: only defaults that JSON can express are validated.
        odd = [field for field in cls.model_fields.values() if not isinstance(field.default, _JSON)]
        for field in odd:
            if field.validate_default is None:
                field.validate_default = False


class TokenizerConfig(Config):
    """Base of a tokenizer's configuration; a plain `Config` will do for one that is drawn or fitted.

    Attributes:
        objective: name of the objective that trains the tokenizer; None if it needs no training
    """

    objective: ClassVar[str | None] = None

    @property
    def needs_teacher(self) -> bool:
        """Whether it learns from an encoder."""
        return False


class ObjectiveConfig(Config):
    """Base of an objective's configuration; a plain `Config` will do for one that learns from a tokenizer's labels.

    Attributes:
        needs_tokenizer: whether it learns from a tokenizer's labels; schedules prepare none for one that does not
    """

    needs_tokenizer: ClassVar[bool] = True


@dataclass(frozen=True)
class PartChoice:
    """A part of the catalog together with its configuration.

    Attributes:
        part: the catalog's entry
        config: the configuration, an instance of `part.config`
    """

    part: Part
    config: Config

    @classmethod
    def of(cls, part: Part, config: Mapping[str, Any], *, catalog: Catalog | None = None) -> PartChoice:
        """Choose a part with a configuration given as plain data.

        Args:
            catalog: where parts that the configuration names are looked up

        Raises:
            pydantic.ValidationError: if the configuration does not fit the part
        """
        context = {"catalog": catalog}
        return cls(part, part.config.model_validate_json(json.dumps(dict(config)), context=context))

    @property
    def kind(self) -> str:
        return self.part.kind

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def label(self) -> str:
        """What people call it: what its `path` points at if it goes by that, else its name."""
        stated = getattr(self.config, "path", None) if self.config.goes_by_path else None
        if stated is None:
            return self.name
        path = Path(stated)
        # A folder `recordings.2024` has no suffix.
        return path.stem if path.suffix[1:2].isalpha() else path.name

    @property
    def origin(self) -> Origin:
        """Where the part came from."""
        return self.part.origin

    def plain(self) -> dict[str, Any]:
        """`{type: name, **configuration}` with every default."""
        return {"type": self.name, **self.config.model_dump(mode="json")}

    def __hash__(self) -> int:
        # A configuration may hold dictionaries, which have no hash.
        return hash((self.kind, self.name))


@dataclass(frozen=True)
class ChoiceOf:
    """Tells pydantic to read a part of one kind: `"name"` or `{type: name, **configuration}`.

    `{checkpoint: PATH}` is short for `{type: checkpoint, path: PATH}`.

    The catalog comes from the validation context, `context={"catalog": catalog}`.
    """

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._choose,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda choice: choice.plain() if isinstance(choice, PartChoice) else choice
            ),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {PLACEHOLDER: self.kind}

    def _choose(self, value: Any, info: ValidationInfo) -> PartChoice:
        if isinstance(value, PartChoice):
            if value.kind != self.kind:
                raise PydanticCustomError(PROBLEM, f"must be of kind {self._called}, but is of kind {value.kind}")
            return value
        catalog: Catalog | None = (info.context or {}).get("catalog")
        if catalog is None:
            raise TypeError('parts are looked up in `context={"catalog": catalog}`, which was not given')
        if is_checkpoint(value):
            value = self._spelled_out(value)
        name = value.get("type") if isinstance(value, dict) else value
        if not isinstance(name, str):
            raise PydanticCustomError(PROBLEM, self._malformed(value, catalog))
        if name not in catalog.names(self.kind):
            raise PydanticCustomError(UNKNOWN, self._unknown(name, catalog))
        config = {key: item for key, item in value.items() if key != "type"} if isinstance(value, dict) else {}
        part = catalog.get(self.kind, name)
        if info.mode == "json":
            return PartChoice.of(part, config, catalog=catalog)
        return PartChoice(part, part.config.model_validate(config, context=info.context))

    @property
    def _called(self) -> str:
        return self.kind.replace("_", " ")

    def _spelled_out(self, value: dict[str, Any]) -> dict[str, Any]:
        path = value[CHECKPOINT]
        if not isinstance(path, str | Path):
            raise PydanticCustomError(PROBLEM, f"must name a file or folder in `{CHECKPOINT}`, but names {given(path)}")
        rest = {key: item for key, item in value.items() if key != CHECKPOINT}
        return {"type": CHECKPOINT, "path": path, **rest}

    def _malformed(self, value: Any, catalog: Catalog) -> str:
        allowed = choices("", catalog.names(self.kind))
        if isinstance(value, dict):
            stated = f"`type` is {given(value['type'])}" if "type" in value else "`type` is missing"
            return f"must name its part in `type`, but {stated}. {allowed}"
        return f"must be a part's name or a mapping with `type`, but is {given(value)}. {allowed}"

    def _unknown(self, name: str, catalog: Catalog) -> str:
        message = f"there is no {self._called} called `{name}`. {choices(name, catalog.names(self.kind))}"
        for failure in catalog.failures:
            message += f" Plugin {failure.source} could have brought it, but failed to load: {failure.error}"
        return message


def is_checkpoint(value: Any) -> bool:
    """Whether a value is the shorthand `{checkpoint: PATH}` for a part of a checkpoint."""
    return isinstance(value, dict) and CHECKPOINT in value and not {"type", "path"} & value.keys()


CHECKPOINT = "checkpoint"
"""The part, of several kinds, that comes from a checkpoint; as a key, the shorthand for it."""
PLACEHOLDER = "x-ossicle-part"
"""Stands in a configuration's JSON schema for the parts of a kind, which only a catalog knows."""
PROBLEM, UNKNOWN = "part_choice", "unknown_part"


CorpusChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("corpus")]
FrontEndChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("front_end")]
EncoderChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("encoder")]
TokenizerChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("tokenizer")]
HeadChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("head")]
ObjectiveChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("objective")]
MaskingChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("masking")]
ScheduleChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("schedule")]
TaskChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("task")]
LauncherChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("launcher")]
