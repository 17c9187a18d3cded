"""`plugins`, `explain` and `schema`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.usefixtures("own_plugins")

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "sign_hash.py"

Commands = Callable[..., Any]
"""Runs a command and returns its exit code, standard output and standard error as `code`, `out` and `err`."""


def test_plugins_are_listed_in_columns(ossicle: Commands) -> None:
    shown = ossicle("plugins", EXAMPLE)
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    own = next(line for line in lines if "sign_hash" in line)
    assert own.split()[:3] == ["tokenizer", "sign_hash", "sign_hash.py"]
    assert own.endswith("Hash a patch by the sides of random hyperplanes that it lies on (Charikar, 2002).")
    encoder = next(line for line in lines if line.startswith("encoder") and " beats " in line)
    for line, origin, summary in ((own, "sign_hash.py", "Hash a"), (encoder, "ossicle", "The encoder of BEATs")):
        at = line.index(origin, 20), line.index(summary)
        assert at == (own.index("sign_hash.py", 20), own.index("Hash a"))


def test_plugins_as_json(ossicle: Commands) -> None:
    listed = json.loads(ossicle("plugins", "--json").out)
    assert listed["failures"] == []
    assert {"kind": "encoder", "name": "beats"}.items() <= next(
        part for part in listed["parts"] if part["name"] == "beats"
    ).items()


def test_kinds_of_stages_are_listed_with_their_documentation(ossicle: Commands, tmp_path: Path) -> None:
    file = tmp_path / "classes.py"
    file.write_text(
        "from dataclasses import dataclass\nimport ossicle\n"
        "@ossicle.stage\n@dataclass(frozen=True, kw_only=True)\nclass ClassesStage(ossicle.CorpusStage):\n"
        '    """List the classes of a corpus.\n\n    Attributes:\n        separator: text between two\n    """\n'
        '    kind = "classes"\n    action = "classes:run"\n    is_evaluation = True\n    separator: str = ", "\n'
        "@ossicle.stage\n@dataclass(frozen=True, kw_only=True)\nclass Undocumented(ossicle.Stage):\n"
        '    kind = "undocumented"\n    action = "classes:run"\n'
    )
    lines = ossicle("plugins", file).out.splitlines()
    own = next(line for line in lines if line.startswith("stage") and " classes " in line)
    assert own.split()[:3] == ["stage", "classes", "classes.py"]
    assert own.endswith("List the classes of a corpus.")
    assert any(line.startswith("stage") and line.endswith("Pre-train an encoder.") for line in lines)
    listed = {stage["name"]: stage["summary"] for stage in json.loads(ossicle("plugins", "--json", file).out)["stages"]}
    assert listed["classes"] == "List the classes of a corpus."
    assert listed["undocumented"] == ""
    assert all(summary.endswith(".") for name, summary in listed.items() if name != "undocumented")
    text = ossicle("explain", "stage", "classes", "--plugin", file).out
    assert text.startswith("stage classes   (classes.py sha256:")
    assert "separator: text between two" in text
    assert text.endswith("  action: classes:run\n  flags: is_evaluation\n")
    assert "classes, " in ossicle("explain", "stage", "--plugin", file).out


def test_a_part_with_a_former_name_is_listed_once_with_both_names(ossicle: Commands) -> None:
    lines = [line for line in ossicle("plugins").out.splitlines() if line.split()[:2] == ["tokenizer", "position"]]
    assert len(lines) == 1
    assert lines[0].endswith(" Formerly `place`.")
    listed = json.loads(ossicle("plugins", "--json").out)["parts"]
    assert [part["aliases"] for part in listed if part["name"] in ("position", "place")] == [["place"]]
    assert ossicle("explain", "tokenizer", "place").out.startswith("tokenizer position, formerly place   (ossicle ")


def test_every_built_in_part_has_a_summary(ossicle: Commands) -> None:
    for part in json.loads(ossicle("plugins", "--json").out)["parts"]:
        assert part["summary"].endswith("."), part
        assert not part["summary"].startswith("Settings of"), part


def test_explain(ossicle: Commands) -> None:
    text = ossicle("explain", "encoder", "beats").out
    assert text.startswith("encoder beats   (ossicle ")
    assert '  size: one of "tiny", "small", "base", "large"; default "base"\n      `base` (90 million' in text
    assert "  layers: whole number >= 1 or empty; default null\n" in text
    nested = ossicle("explain", "objective", "masked_prediction").out
    predictor = "  predictor: mapping\n      The predictor of the hidden patches.\n\n"
    assert predictor + "      layers: whole number >= 1; default 3\n" in nested
    schedule = ossicle("explain", "schedule", "beats").out
    assert "  iterations: list of mapping; must be given\n" in schedule
    assert "      tokenizer: tokenizer (a part) or empty; default null\n" in schedule
    own = ossicle("explain", "tokenizer", "sign_hash", "--plugin", EXAMPLE).out
    assert "Hash a patch by the sides" in own
    assert "  bits: whole number; default 9\n      Random hyperplanes; the codebook has 2 ** bits codes.\n" in own


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage", "pretrian"], "there is no kind of stage called `pretrian`. Did you mean `pretrain`? Allowed: "),
        (["tokenizer", "nope"], "there is no tokenizer called `nope`. Allowed: "),
        (["encoder", "beast"], "there is no encoder called `beast`. Did you mean `beats`? Allowed: beats, "),
        (
            ["tokeniser", "x"],
            "there is no kind of part called `tokeniser`. Did you mean `tokenizer`? Allowed: corpus, ",
        ),
    ],
)
def test_explaining_an_unknown_part(arguments: list[str], message: str, ossicle: Commands) -> None:
    shown = ossicle("explain", *arguments)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1


def unfit(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "") -> Iterator[str]:
    """Yield violations of a JSON schema. Supports only the keywords that the schema of experiments uses."""
    if "$ref" in schema:
        yield from unfit(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    for word in ("anyOf", "oneOf"):
        if word in schema and all(list(unfit(value, option, root, at)) for option in schema[word]):
            yield f"{at}: no branch takes {value!r}"
    if "not" in schema and not list(unfit(value, schema["not"], root, at)):
        yield f"{at}: {value!r} is excluded"
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": int | float, "null": type(None)}
    kind = types.get(schema.get("type", ""))
    if kind and (not isinstance(value, kind) or isinstance(value, bool)):
        yield f"{at}: {value!r} is not of type {schema['type']}"
    if "const" in schema and value != schema["const"]:
        yield f"{at}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, dict):
        yield from (f"{at}: {name} is missing" for name in schema.get("required", []) if name not in value)
        properties = schema.get("properties", {})
        for name, item in value.items():
            if name in properties:
                yield from unfit(item, properties[name], root, f"{at}.{name}")
            elif schema.get("additionalProperties") is False:
                yield f"{at}: unknown key {name}"
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from unfit(item, schema["items"], root, f"{at}.{number}")


def test_the_schema_accepts_the_quickstart_and_refuses_a_misspelt_key(ossicle: Commands) -> None:
    schema = json.loads(ossicle("schema", "--plugin", EXAMPLE).out)
    quickstart = yaml.safe_load((ROOT / "experiments" / "quickstart.yaml").read_text())
    assert list(unfit(quickstart, schema, schema)) == []
    own = yaml.safe_load((ROOT / "examples" / "sign_hash.yaml").read_text())
    assert list(unfit(own, schema, schema)) == []
    assert list(unfit(quickstart | {"encoder": {"type": "beats", "sise": "tiny"}}, schema, schema))
    assert list(unfit(quickstart | {"encoder": "beast"}, schema, schema))
    assert list(unfit(quickstart | {"pretrain": {"steps": "many"}}, schema, schema))
