"""`PartChoice`: "a part of this kind", as a field of a configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .config import Config
from .config_errors import PROBLEM, UNKNOWN, in_short
from .errors import ConfigError, Problem
from .wording import NodePath, choices, given

if TYPE_CHECKING:
    from .catalog import Catalog, Part


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
            catalog: the catalog of the parts that the configuration names

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
    def display_name(self) -> str:
        """The name for people: the last component of its `path` if `goes_by_path`, else the name of the part."""
        stated = getattr(self.config, "path", None) if self.config.goes_by_path else None
        if stated is None:
            return self.name
        path = Path(stated)
        # `.2024` in a folder `recordings.2024` is not a suffix.
        return path.stem if path.suffix[1:2].isalpha() else path.name

    def plain(self) -> dict[str, Any]:
        """Return `{type: name, **configuration}` with every default."""
        return {"type": self.name, **self.config.model_dump(mode="json")}

    def __hash__(self) -> int:
        # A configuration can contain dictionaries, which are not hashable.
        return hash((self.kind, self.name))


@dataclass(frozen=True)
class ChoiceOf:
    """An annotation that makes pydantic read a part of one kind: `"name"` or `{type: name, **configuration}`.

    `{checkpoint: PATH}` is short for `{type: checkpoint, path: PATH}`. The catalog comes from the validation context,
    `context={"catalog": catalog}`.
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
        if self.kind not in catalog.part_kinds:
            raise PydanticCustomError(UNKNOWN, catalog.unknown("kind of part", self.kind, catalog.part_kinds))
        if is_checkpoint(value):
            value = self._spelled_out(value)
        name = value.get("type") if isinstance(value, dict) else value
        if not isinstance(name, str):
            raise PydanticCustomError(PROBLEM, self._malformed(value, catalog))
        part = catalog.find(self.kind, name)
        if part is None:
            raise PydanticCustomError(UNKNOWN, catalog.unknown(self._called, name, catalog.names(self.kind)))
        config = {key: item for key, item in value.items() if key != "type"} if isinstance(value, dict) else {}
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


def is_checkpoint(value: Any) -> bool:
    """Return whether a value is the shorthand `{checkpoint: PATH}` for a part of a checkpoint."""
    return isinstance(value, dict) and CHECKPOINT in value and not {"type", "path"} & value.keys()


CHECKPOINT = "checkpoint"
"""The name of the part that comes from a checkpoint, in several kinds, and the key of its shorthand."""

PLACEHOLDER = "x-ossicle-part"
"""Placeholder in the JSON schema of a configuration for the parts of a kind, which only a catalog knows."""

CorpusChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("corpus")]
FrontEndChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("front_end")]
EncoderChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("encoder")]
TokenizerChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("tokenizer")]
HeadChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("head")]
ObjectiveChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("objective")]
ScheduleChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("schedule")]
TaskChoice: TypeAlias = Annotated[PartChoice, ChoiceOf("task")]


def with_options(choice: PartChoice, options: Mapping[str, Any], catalog: Catalog | None = None) -> PartChoice:
    """Return the same part with some of its configuration replaced.

    Args:
        catalog: the catalog of the parts that the configuration names

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
        raise ConfigError([Problem(where, in_short(details)) for details in error.errors(include_url=False)]) from error


def parts_of(value: Any, path: NodePath = ()) -> Iterator[tuple[NodePath, PartChoice]]:
    """Yield every part that a configuration chooses, including parts of parts, each with its path."""
    if isinstance(value, PartChoice):
        yield path, value
        yield from parts_of(value.config, path)
    elif isinstance(value, Config):
        for name in type(value).model_fields:
            yield from parts_of(getattr(value, name), (*path, name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from parts_of(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from parts_of(item, (*path, key))
