"""Documents: merging, overrides, patches of ablations, bases and presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ossicle.core.config_files.documents import (
    Document,
    apply_patch,
    load_document,
    merge,
    override,
    parse_document,
    resolve_base,
)
from ossicle.core.config_files.presets import FOLDER, preset_names, preset_path
from ossicle.core.errors import ConfigError


def read(text: str, source: str = "x.yaml") -> Document:
    return parse_document(text, source, Path("/house"))


MERGES: list[tuple[str, str, dict[str, Any]]] = [
    ("a: 1\nb: 2", "b: 3\nc: 4", {"a": 1, "b": 3, "c": 4}),
    ("a: {x: 1, y: 2}", "a: {y: 3}", {"a": {"x": 1, "y": 3}}),
    ("a: [1, 2]", "a: [3]", {"a": [3]}),
    ("a: {x: 1}", "a:", {"a": None}),
    ("a: {type: p, x: 1}", "a: {x: 2}", {"a": {"type": "p", "x": 2}}),
    ("a: {type: p, x: 1}", "a: {type: p, y: 2}", {"a": {"type": "p", "x": 1, "y": 2}}),
    ("a: {type: p, x: 1}", "a: {type: q, y: 2}", {"a": {"type": "q", "y": 2}}),
    ("a: {type: p, x: 1}", "a: q", {"a": {"type": "q"}}),
    ("a: {type: p, x: 1}", "a: p", {"a": {"type": "p", "x": 1}}),
    ("a: p", "a: {x: 1}", {"a": {"type": "p", "x": 1}}),
    ("a: p", "a: {type: q, x: 1}", {"a": {"type": "q", "x": 1}}),
    ("a: p", "a: q", {"a": "q"}),
    ("a: 3", "a: {x: 1}", {"a": {"x": 1}}),
]


@pytest.mark.parametrize(("base", "patch", "result"), MERGES)
def test_merge(base: str, patch: str, result: dict[str, Any]) -> None:
    below, above = read(base, "base.yaml"), read(patch, "patch.yaml")
    merged = merge(below, above)
    assert merged.tree == result
    assert (below.tree, above.tree) == (read(base).tree, read(patch).tree)
    assert merged.span(()).key.source == "patch.yaml"


def test_merged_values_keep_their_spans() -> None:
    merged = merge(read("a: {type: p, x: 1}\nb: 2", "base.yaml"), read("c: 3\na: {y: 4}", "patch.yaml"))
    spans = {".".join(map(str, path)): str(span.value) for path, span in merged.spans.items() if path}
    assert spans == {
        "a": "patch.yaml:2:4",
        "a.type": "base.yaml:1:11",
        "a.x": "base.yaml:1:17",
        "a.y": "patch.yaml:2:8",
        "b": "base.yaml:2:4",
        "c": "patch.yaml:1:4",
    }


OVERRIDES: list[tuple[str, dict[str, Any]]] = [
    ("n=5e-4", {"n": 5e-4}),
    ("t.size=3", {"t": {"type": "p", "size": 3}}),
    ("l.0.k=[1, 2]", {"l": [{"k": [1, 2]}, 2]}),
    ("l.1=x", {"l": [{"k": 1}, "x"]}),
    ("m={type: q}", {"m": {"type": "q"}}),
    ("m.x=2", {"m": {"type": "p", "x": 2}}),
    ("new.below=1", {"new": {"below": 1}}),
    ("e.below=1", {"e": {"below": 1}}),
    ("n=", {"n": None}),
    ("n=a=b", {"n": "a=b"}),
    ("n='3'", {"n": "3"}),
]


@pytest.mark.parametrize(("text", "changed"), OVERRIDES)
def test_override(text: str, changed: dict[str, Any]) -> None:
    document = read("n: 1\nt: p\nl: [{k: 1}, 2]\nm: {type: p, x: 1}\ne:\n")
    assert override(document, text).tree == document.tree | changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n", "an override is written `key=value`"),
        ("=3", "an override is written `key=value`"),
        ("a..b=3", "an override is written `key=value`"),
        ("n.x=3", "`n` is `1`, so there is no `x` below it"),
        ("l.2=3", "`l` is a list and has no item `2`; allowed: 0 to 1"),
        ("l.-1=3", "`l` is a list and has no item `-1`; allowed: 0 to 1"),
        ("l.k=3", "`l` is a list and has no item `k`; allowed: 0 to 1"),
        ("o.0=3", "`o` is a list and has no item `0`; allowed: none, because it is empty"),
        ("new.0.x=3", "there is no list at `new`, so it has no item 0; write the list in the file"),
        ("n=[1", "this `[` is not closed, or a comma is missing; noticed at line 1"),
        ("base=x", "`base` cannot be overridden; set it in the file"),
    ],
)
def test_bad_overrides(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(read("n: 1\nl: [1, 2]\no: []"), text)
    assert str(caught.value).startswith(f"override '{text}': {message}")


def test_paths_in_overrides_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert override(read("a: 1"), "a=./b").tree == {"a": str(tmp_path / "b")}


def test_values_of_an_ablations_patch_keep_their_spans() -> None:
    ablation = read("vary:\n  t:\n    mine: {s.0.t: {type: q}, n: 2}\n    none: {}\n", "ablation.yaml")
    base = read("s: [{t: {type: p, x: 1}}]\nn: 1")
    patched = apply_patch(base, ablation.at("vary", "t", "mine"))
    assert patched.tree == {"s": [{"t": {"type": "q"}}], "n": 2}
    assert str(patched.span(("s", 0, "t", "type")).value) == "ablation.yaml:3:26"
    assert apply_patch(base, ablation.at("vary", "t", "none")).tree == base.tree
    with pytest.raises(ConfigError, match=r"ablation\.yaml:1:1: `vary.u` is missing"):
        ablation.at("vary", "u")


def test_bases(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/first.yaml").write_text("a: 1\nb: 1\nc: 1\nfile: ./x\n")
    (tmp_path / "second.yaml").write_text("base: ./deep/first.yaml\nb: 2\nc: 2\n")
    (tmp_path / "preset.yaml").write_text("c: 3\nd: 3\n")
    (tmp_path / "third.yaml").write_text("base: [./second.yaml, some/preset]\nd: 4\n")
    presets = {"some/preset": tmp_path / "preset.yaml"}
    resolved = resolve_base(load_document(tmp_path / "third.yaml"), presets.get, lambda: list(presets))
    assert resolved.tree == {"a": 1, "b": 2, "c": 3, "d": 4, "file": str(tmp_path / "deep/x")}
    assert resolved.span(("c",)).value.source == str(tmp_path / "preset.yaml")


def test_a_base_without_a_folder_is_next_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("a: 1\n")
    (tmp_path / "two.yaml").write_text("base: one.yaml\n")
    assert resolve_base(load_document(tmp_path / "two.yaml")).tree == {"a": 1}


def test_two_bases_can_share_a_base(tmp_path: Path) -> None:
    (tmp_path / "root.yaml").write_text("a: 1\n")
    (tmp_path / "one.yaml").write_text("base: ./root.yaml\nb: 1\n")
    (tmp_path / "two.yaml").write_text("base: ./root.yaml\nc: 1\n")
    (tmp_path / "top.yaml").write_text("base: [./one.yaml, ./two.yaml]\n")
    assert resolve_base(load_document(tmp_path / "top.yaml")).tree == {"a": 1, "b": 1, "c": 1}


def test_unknown_preset(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("base: beats/tini\n")
    message = r"x\.yaml:1:7: there is no preset `beats/tini`\. Did you mean `beats/tiny`\? Allowed: beats/tiny, quick\."
    with pytest.raises(ConfigError, match=message):
        resolve_base(load_document(tmp_path / "x.yaml"), lambda name: None, lambda: ["beats/tiny", "quick"])


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").touch()
    with pytest.raises(ConfigError) as caught:
        load_document(tmp_path / "quikstart.yaml")
    path = tmp_path / "quikstart.yaml"
    assert str(caught.value) == (
        f"{path}: there is no file `quikstart.yaml` in {tmp_path}. Did you mean `quickstart.yaml`? "
        "Allowed: quickstart.yaml."
    )
    with pytest.raises(ConfigError, match=r"there is no file `x\.yaml`, because there is no folder .*nowhere"):
        load_document(tmp_path / "nowhere/x.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_document(tmp_path)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1\n", encoding="utf-8-sig")
    assert load_document(tmp_path / "x.yaml").tree == {"a": 1}


def test_presets() -> None:
    for name in preset_names():
        assert preset_path(name) == FOLDER / f"{name}.yaml"
    assert preset_path("../presets/none") is None
