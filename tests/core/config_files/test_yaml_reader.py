"""Reading YAML: scalars, errors and spans; and text that is written and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.core.config_files.documents import Document, parse_document, to_yaml
from ossicle.core.errors import ConfigError


def read(text: str) -> Document:
    return parse_document(text, "x.yaml", Path("/house"))


SPELLINGS: list[tuple[str, Any]] = [
    ("5e-4", 5e-4),
    ("1e3", 1000.0),
    (".5", 0.5),
    ("5.", 5.0),
    ("-1.5E+2", -150.0),
    ("1_000", "1_000"),
    ("017", 17),
    ("0o17", 15),
    ("0x1F", 31),
    ("+12", 12),
    ("1:30", "1:30"),
    ("190:20:30", "190:20:30"),
    ("2024-01-02", "2024-01-02"),
    ("on", "on"),
    ("off", "off"),
    ("yes", "yes"),
    ("No", "No"),
    ("y", "y"),
    ("true", True),
    ("False", False),
    ("tRUE", "tRUE"),
    ("null", None),
    ("~", None),
    ("", None),
    ("'5e-4'", "5e-4"),
    ('"true"', "true"),
    (".inf", float("inf")),
    ("-.INF", float("-inf")),
    ("1.2.3", "1.2.3"),
    ("e5", "e5"),
    ("=", "="),
    ("./a.wav", "/house/a.wav"),
    ("'../a.wav'", "/a.wav"),
    (".hidden", ".hidden"),
    ("..", ".."),
    ("[1, two, {three: 4}]", [1, "two", {"three": 4}]),
    ("|\n  one\n  two\n", "one\ntwo\n"),
]


@pytest.mark.parametrize(("spelling", "value"), SPELLINGS)
def test_scalars_follow_yaml_1_2(spelling: str, value: Any) -> None:
    read_value = read(f"key: {spelling}").tree["key"]
    assert read_value == value
    assert type(read_value) is type(value)


INVALID: list[tuple[str, str]] = [
    ("a: 1\na: 2", "x.yaml:2:1: `a` is given twice, first at line 1, column 1; keep one"),
    ("a: {b: 1, c: 2, b: 3}", "x.yaml:1:17: `b` is given twice, first at line 1, column 5; keep one"),
    ("1: a", "x.yaml:1:1: a key must be text, but is `1`; put quotes around it"),
    ("true: a", "x.yaml:1:1: a key must be text, but is `true`; put quotes around it"),
    ("? [a]\n: b", "x.yaml:1:3: a key must be text, but is a list or mapping; put quotes around it"),
    ("a: &x [*x]", "x.yaml:1:4: this anchor contains itself; write the value out"),
    ("a: &x {<<: *x}", "x.yaml:1:4: `<<` takes an anchored mapping (`<<: *name`) or a list of them"),
    ("<<: 3", "x.yaml:1:5: `<<` takes an anchored mapping (`<<: *name`) or a list of them"),
    ("a: @b", "x.yaml:1:4: text cannot start with @ in YAML; put quotes around it"),
    ("a: - b", "x.yaml:1:4: a list's `- ` cannot start here; put it on a separate line"),
    ("a: 1\nb\nc: 2", "x.yaml:2:1: this line has no `:`; write `key: value`, or quote text of several lines"),
    ("a: !local b", "x.yaml:1:4: tags such as `!local` are not allowed; write the plain value, or quote text that"),
    ('a: "\\q"', "x.yaml:1:6: `\\q` is not an escape sequence; use single quotes"),
    ("a: ]", "x.yaml:1:4: a value is missing before `]`"),
    ("a: b\x00", "x.yaml:1:5: the character U+0000 is not allowed in YAML; remove it"),
    ('a: "\\ud800"', "x.yaml:1:4: half of a surrogate pair is not a character; write the character itself"),
    ("a: " + "9" * 5000, "x.yaml:1:4: this number is too long"),
    ("a: " + "[" * 500, "x.yaml:1:1: lists or mappings are nested too deeply"),
    ("just text", "x.yaml:1:1: the file must be a mapping (`key: value` lines), but is the text `just text`"),
    ("", "x.yaml:1:1: the file is empty"),
]


@pytest.mark.parametrize(("text", "message"), INVALID)
def test_invalid_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(message)


@pytest.mark.slow
def test_anchors_that_expand_to_too_many_values_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="expand to more than 100000 values"):
        read("\n".join(lines))


def test_every_problem_of_a_text_is_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        read("a: 1\na: 2\n3: 4\n")
    assert [str(problem.where) for problem in caught.value.problems] == ["x.yaml:2:1", "x.yaml:3:1"]


def test_merge_keys() -> None:
    document = read("a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: [*b, {z: 5}], x: 7}")
    assert document.tree["b"] == {"x": 1, "y": 3}
    assert document.tree["c"] == {"x": 7, "y": 3, "z": 5}
    assert str(document.span(("c", "y")).key) == "x.yaml:2:16"


def test_spans() -> None:
    document = read("a:\n  b: 1\n  c: [2, {d: 3}]\ne: {f: 4}\n")
    assert {path: (str(span.key)[7:], str(span.value)[7:]) for path, span in document.spans.items()} == {
        (): ("1:1", "1:1"),
        ("a",): ("1:1", "1:1"),
        ("a", "b"): ("2:3", "2:6"),
        ("a", "c"): ("3:3", "3:6"),
        ("a", "c", 0): ("3:7", "3:7"),
        ("a", "c", 1): ("3:10", "3:10"),
        ("a", "c", 1, "d"): ("3:11", "3:14"),
        ("e",): ("4:1", "4:4"),
        ("e", "f"): ("4:5", "4:8"),
    }
    assert document.span(("a", "missing", 3)) == document.span(("a",))


TEXT = st.text(max_size=12).filter(lambda text: not text.startswith(("./", "../")))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
TREES = st.dictionaries(
    TEXT,
    st.recursive(SCALARS, lambda below: st.lists(below, max_size=4) | st.dictionaries(TEXT, below, max_size=4)),
    max_size=5,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(TREES)
def test_a_written_tree_reads_back_unchanged(tree: dict[str, Any]) -> None:
    again = read(to_yaml(tree)).tree
    assert again == tree
    assert repr(again) == repr(tree)


@pytest.mark.parametrize("text", [spelling for spelling, _ in SPELLINGS if not spelling.startswith((".", "'.", "|"))])
def test_text_that_looks_like_something_else_reads_back_as_text(text: str) -> None:
    assert read(to_yaml({"key": text, text or "k": 1})).tree["key"] == text
