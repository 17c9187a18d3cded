"""The catalog: what can be offered, under which name, and the errors for what cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import ossicle
from ossicle.core.catalog import Catalog, Origin, UnknownPartError, config_of, declared
from ossicle.core.errors import PluginError
from ossicle.core.part_kinds import ossicle_register_part_kinds
from ossicle.core.stage_runner import StageRun
from ossicle.core.stages import Stage

pytestmark = pytest.mark.usefixtures("own_plugins")

ONE, TWO = Origin("ears", "1.0"), Origin("noses", "2.0")


class Settings(ossicle.Config):
    """Settings of a part."""


class Part:
    """Does nothing.

    At length.
    """

    def __init__(self, config: Settings, bands: int = 1) -> None: ...


class Other:
    def __init__(self, config: Settings) -> None: ...


class Heir(Part):
    """Inherits its constructor."""


def with_kinds() -> Catalog:
    catalog = Catalog()
    with catalog.added_by(Origin("tests")):
        ossicle_register_part_kinds(catalog)
    return catalog


def test_a_part_is_found_by_kind_and_name() -> None:
    catalog = with_kinds()
    with catalog.added_by(ONE):
        catalog.add("tokenizer", "mine", Part)
        catalog.add("encoder", "mine", "nowhere:Encoder", config=Settings)
    part = catalog.get("tokenizer", "mine")
    assert (part.load(), part.config, part.summary, part.origin.describe()) == (
        Part,
        Settings,
        "Does nothing.",
        "ears 1.0",
    )
    assert catalog.get("encoder", "mine").summary == "Settings of a part."
    assert [(part.kind, part.name) for part in catalog.parts()] == [("encoder", "mine"), ("tokenizer", "mine")]


def test_an_unknown_part_is_reported_with_the_allowed_names() -> None:
    catalog = with_kinds()
    with catalog.added_by(ONE):
        catalog.add("tokenizer", "random_projection", Part)
    with pytest.raises(UnknownPartError) as caught:
        catalog.get("tokenizer", "random_projektion")
    assert str(caught.value) == (
        "there is no tokenizer called `random_projektion`. Did you mean `random_projection`? "
        "Allowed: random_projection."
    )
    with pytest.raises(UnknownPartError, match=r"there is no encoder called `x`\. Allowed: none\."):
        catalog.get("encoder", "x")


def test_two_plugins_cannot_offer_the_same_name() -> None:
    catalog = with_kinds()
    with catalog.added_by(ONE):
        catalog.add("tokenizer", "mine", Part)
        catalog.add("tokenizer", "mine", Part)
        with pytest.raises(PluginError, match=r"tokenizer `mine` is offered twice by ears 1\.0; rename one of them"):
            catalog.add("tokenizer", "mine", Other)
    message = "tokenizer `mine` is offered by ears 1.0 and by noses 2.0; rename one of them"

    def second() -> None:
        with catalog.added_by(TWO):
            catalog.add("tokenizer", "also", Part)
            catalog.add("tokenizer", "mine", Other)

    with pytest.raises(PluginError, match=message):
        second()
    assert catalog.names("tokenizer") == ["mine"], "a plugin that fails must leave nothing behind"
    assert catalog.get("tokenizer", "mine").load() is Part


def test_a_part_is_also_found_by_its_former_names_but_listed_once() -> None:
    catalog = with_kinds()
    with catalog.added_by(ONE):
        catalog.add("tokenizer", "fresh", Part, aliases=["stale"])
    assert catalog.get("tokenizer", "stale") is catalog.get("tokenizer", "fresh")
    assert catalog.names("tokenizer") == [part.name for part in catalog.parts()] == ["fresh"]
    with pytest.raises(UnknownPartError, match=r"called `stael`\. Allowed: fresh\."):
        catalog.get("tokenizer", "stael")
    with pytest.raises(UnknownPartError):
        catalog.get("encoder", "stale")


@pytest.mark.parametrize(("name", "aliases"), [("stale", []), ("other", ["stale"]), ("other", ["fresh"])])
def test_a_former_name_cannot_be_offered_by_another_plugin(name: str, aliases: list[str]) -> None:
    catalog = with_kinds()
    with catalog.added_by(ONE):
        catalog.add("tokenizer", "fresh", Part, aliases=["stale"])
    taken = (aliases or [name])[0]
    with catalog.added_by(TWO), pytest.raises(PluginError, match=f"`{taken}` is offered by ears 1.0 and by noses 2.0"):
        catalog.add("tokenizer", name, Other, aliases=aliases)


@dataclass(frozen=True, kw_only=True)
class Counting(Stage):
    """A kind of stage."""

    kind = "counting"
    action = f"{__name__}:count"


@dataclass(frozen=True, kw_only=True)
class AlsoCounting(Stage):
    """Another kind of stage with the same id."""

    kind = "counting"
    action = f"{__name__}:count"


@dataclass(frozen=True, kw_only=True)
class Sorting(Counting):
    """A kind of stage with another id."""

    kind = "sorting"


def count(run: StageRun[Counting]) -> None: ...


def test_two_plugins_cannot_offer_the_same_id_of_a_stage() -> None:
    catalog = Catalog()
    with catalog.added_by(ONE):
        catalog.add_stage(Counting)
        catalog.add_stage(Counting)
    assert catalog.stage_kinds == {"counting": (Counting, ONE)}

    def second() -> None:
        with catalog.added_by(TWO):
            catalog.add_stage(Sorting)
            catalog.add_stage(AlsoCounting)

    with pytest.raises(PluginError, match=r"stage `counting` is offered by ears 1\.0 and by noses 2\.0; rename one"):
        second()
    assert list(catalog.stage_kinds) == ["counting"], "a plugin that fails must leave nothing behind"
    assert catalog.origin_of(Counting(name="one")) == ONE


def test_the_origin_of_a_programs_stage_includes_its_action() -> None:
    catalog = Catalog()
    catalog.add_stage(Counting)
    origin = catalog.origin_of(Counting(name="one"))
    assert origin == Origin.of_program(Counting, count)
    assert origin != Origin.of_program(Counting)


class NoConfig:
    def __init__(self) -> None: ...


class Unannotated:
    def __init__(self, config) -> None: ...  # type: ignore[no-untyped-def]


class WrongType:
    def __init__(self, config: int) -> None: ...


class UnknownName:
    def __init__(self, config: Setings) -> None: ...  # type: ignore[name-defined]  # noqa: F821


class UnknownAttribute:
    def __init__(self, config: ossicle.Confg) -> None: ...  # type: ignore[name-defined]


@pytest.mark.parametrize("part", [NoConfig, Unannotated, WrongType, UnknownName, UnknownAttribute])
def test_a_constructor_must_take_a_configuration(part: type) -> None:
    message = f"the first argument of `{part.__name__}.__init__` must be annotated with a subclass of ossicle.Config"
    with pytest.raises(PluginError, match=message):
        config_of(part)


def test_a_configuration_is_found_in_an_inherited_constructor() -> None:
    assert config_of(Heir) is Settings


@pytest.mark.parametrize(
    ("kind", "part", "message"),
    [
        (
            "tokeniser",
            Part,
            "there is no kind of part called `tokeniser`. Did you mean `tokenizer`? Allowed: corpus, front_end",
        ),
        ("tokenizer", "no_colon", 'tokenizer `x`: a part named by text needs the form "module:Class" and `config=`'),
        ("tokenizer", 3, 'tokenizer `x` must be a class, or text of the form "module:Class", but is 3'),
    ],
)
def test_an_invalid_part_is_refused(kind: str, part: Any, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        with_kinds().add(kind, "x", part, config=Settings)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("ossicle_nowhere:Part", "tokenizer `x` of ears 1.0 cannot be built: No module named 'ossicle_nowhere'"),
        (
            "ossicle.core.errors:Nothing",
            "tokenizer `x` of ears 1.0 cannot be built: module 'ossicle.core.errors' has no attribute",
        ),
        (
            "ossicle.core.errors:annotations",
            "tokenizer `x` of ears 1.0 cannot be built: `ossicle.core.errors:annotations` is not a class",
        ),
    ],
)
def test_a_part_that_cannot_be_imported_is_reported_when_it_is_used(target: str, message: str) -> None:
    catalog = with_kinds()
    with catalog.added_by(ONE):
        catalog.add("tokenizer", "x", target, config=Settings)
    with pytest.raises(PluginError) as caught:
        catalog.get("tokenizer", "x").load()
    assert str(caught.value).startswith(message)


def test_a_decorator_declares_a_part_and_running_a_cell_again_replaces_it() -> None:
    before = len(declared)
    for _ in range(2):

        @ossicle.encoder("mine")
        class Mine(Part):
            pass

    assert [(item.kind, item.name, item.part) for item in declared[before:]] == [("encoder", "mine", Mine)]


def test_a_decorator_needs_a_name() -> None:
    with pytest.raises(PluginError, match=r'name the part: `@ossicle.front_end\("my_front_end"\)`'):
        ossicle.front_end(Part)  # type: ignore[arg-type]


def test_the_fingerprint_of_a_file_depends_on_its_content_but_not_its_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    paths = [tmp_path / "mine.py", tmp_path / "here" / "mine.py"]
    for path in paths:
        path.write_text("x = 1\n")
    one, moved = (Origin.of_file(path) for path in paths)
    assert one.fingerprint() == moved.fingerprint()
    assert one != moved
    paths[0].write_text("x = 2\n")
    assert Origin.of_file(paths[0]).fingerprint() != one.fingerprint()


def test_a_class_without_source_is_refused() -> None:
    made = type("Made", (Part,), {"__module__": "nowhere"})
    with pytest.raises(PluginError, match="the source of `Made` cannot be read"):
        with_kinds().add("tokenizer", "made", made, config=Settings)
