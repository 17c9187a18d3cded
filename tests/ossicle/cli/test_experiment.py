"""`run`, `check` and `plan`: broken experiments, and one experiment from its YAML file to its report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ossicle.core.errors import OssicleError
from ossicle.experiment.run import run

pytestmark = pytest.mark.usefixtures("own_plugins")

ROOT = Path(__file__).parents[3]
BROKEN = ROOT / "tests" / "core" / "config_files" / "broken"
EXAMPLE = ROOT / "examples" / "sign_hash.py"

Commands = Callable[..., Any]
"""Runs a command and returns its exit code, standard output and standard error as `code`, `out` and `err`."""


def expectation(case: str) -> tuple[list[str], list[str]]:
    """The overrides and the expected lines, as `broken/README.md` describes them."""
    lines = (BROKEN / f"{case}.expected").read_text().format(file=f"{case}.yaml", here=BROKEN).splitlines()
    overrides = [line.removeprefix("override: ") for line in lines if line.startswith("override: ")]
    return overrides, lines[len(overrides) :]


def fits(given: str, expected: list[str]) -> bool:
    lines = given.splitlines()
    return len(lines) == len(expected) and all(
        line.startswith(pattern[:-1]) if pattern.endswith("…") else line == pattern
        for line, pattern in zip(lines, expected, strict=True)
    )


@pytest.mark.parametrize("case", sorted(path.stem for path in BROKEN.glob("*.yaml")))
def test_broken_experiments(case: str, ossicle: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    overrides, expected = expectation(case)
    shown = ossicle("check", f"{case}.yaml", *overrides)
    assert shown.code == 2
    assert shown.out == ""
    assert fits(shown.err, expected), shown.err


@pytest.mark.parametrize("case", ["misspelt_key", "bad_override"])
def test_broken_experiments_do_not_run(case: str, ossicle: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)
    overrides, expected = expectation(case)
    shown = ossicle("run", f"{case}.yaml", *overrides)
    assert (shown.code, shown.out) == (2, "")
    assert fits(shown.err, expected), shown.err
    assert not (BROKEN / "runs").exists()


def test_a_new_process_shows_no_traceback(started: Commands) -> None:
    shown = started("check", "two_errors.yaml", cwd=BROKEN)
    assert (shown.code, shown.out) == (2, "")
    assert fits(shown.err, expectation("two_errors")[1]), shown.err


def test_check_prints_an_experiment_that_reads_back_to_itself(ossicle: Commands, tmp_path: Path) -> None:
    shown = ossicle("check", ROOT / "examples" / "sign_hash.yaml", "seed=3")
    assert shown.code == 0
    assert re.search(r"sign_hash\.yaml: no problems; \d+ stages\n$", shown.err)
    again = tmp_path / "again.yaml"
    again.write_text(shown.out)
    assert "seed: 3\n" in shown.out
    assert ossicle("check", again).out == shown.out


def location(path: Path, text: str) -> str:
    """The `file:line:col` at which a text first occurs in a file."""
    before = path.read_text().partition(text)[0]
    assert before != path.read_text(), f"{text} is missing"
    return f"{path}:{before.count(chr(10)) + 1}:{len(before.rpartition(chr(10))[2]) + 1}"


def test_check_finds_a_missing_folder(ossicle: Commands, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("/tones,", "/tunes,"))
    shown = ossicle("check", tiny)
    assert shown.code == 2
    assert shown.err.startswith(f"{location(tiny, '{type: folder')}: the folder `")
    assert "/tunes` does not exist" in shown.err
    assert shown.err.count("\n") == 1


def test_check_finds_labels_missing_under_a_probe(ossicle: Commands, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("labels: folders", "labels: none"))
    shown = ossicle("check", tiny)
    assert shown.code == 2
    assert shown.err.splitlines() == [
        f"{location(tiny, text)}: the corpus has no labels for an evaluation" for text in ("linear_probe", "knn_probe")
    ]


def test_check_finds_a_missing_split_of_the_corpus_of_a_probe(ossicle: Commands, tiny: Path, tones: Path) -> None:
    other = f"{{type: folder, path: {tones}/train, labels: folders, valid_share: 0.3}}"
    text = tiny.read_text().replace("[linear_probe, knn_probe]", f"\n  - {{type: knn_probe, corpus: {other}}}")
    tiny.write_text(text)
    shown = ossicle("check", tiny)
    assert shown.code == 2
    message = (
        "the corpus has no labelled clip in its split `test`: draw some by a folder's `test_share`, or name its clips"
    )
    assert shown.err == f"{location(tiny, other)}: {message} in a table's split column\n"


def test_check_finds_an_empty_training_split(ossicle: Commands, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("  threads: 1\n", "  threads: 1\n  splits: [unlabelled]\n"))
    shown = ossicle("check", tiny)
    assert shown.code == 2
    message = "corpus `tones` has no clip in the splits unlabelled. It has: test, train, valid"
    assert shown.err == f"{location(tiny, '[unlabelled]')}: {message}\n"


@pytest.mark.parametrize("encoder", ["beats", "plain_vit"])
def test_check_finds_heads_that_do_not_divide_the_width(encoder: str, ossicle: Commands, tiny: Path) -> None:
    text = tiny.read_text().replace("heads: 2}}}", "heads: 3}}}")
    if encoder == "plain_vit":
        text = re.sub(r"encoder:\n.*\n.*\n", "encoder: {type: plain_vit, width: 32, heads: 2}\n", text)
    tiny.write_text(text.replace("heads: 2}}", "heads: 3}}"))
    shown = ossicle("check", tiny)
    assert shown.code == 2
    assert shown.err == (
        f"{location(tiny, '{type: masked_prediction')}: `predictor.heads` must divide `width`, but 3 does not divide "
        "32: set `predictor.heads` to one of 1, 2, 4, 8, 16, 32, or change `width`\n"
    )


def test_check_reports_all_problems_in_the_order_of_the_lines(ossicle: Commands, tiny: Path) -> None:
    text = tiny.read_text().replace("/tones,", "/tunes,").replace("heads: 2}}", "heads: 3}}")
    tiny.write_text(text)
    lines = ossicle("check", tiny).err.splitlines()
    assert [line.removeprefix(f"{tiny}:").split(":")[0] for line in lines] == ["2", "18"]


def test_one_of_several_processes_needs_the_address_of_the_others(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(OssicleError, match="WORLD_SIZE is 2, but MASTER_ADDR, MASTER_PORT must be set as well: start"):
        run(tiny, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_one_file_tokenizer_has_at_most_25_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 25


@pytest.mark.slow
def test_an_experiment_runs_from_its_yaml_to_its_report(finished: tuple[Path, Any]) -> None:
    folder, shown = finished
    assert shown.code == 0, shown.err
    assert "Traceback" not in shown.err
    assert "linear_probe on tones" in shown.out
    assert "report: runs/own/report.html" in shown.out
    assert "sign_hash" in (folder / "runs/own/report.html").read_text()
    record = json.loads((folder / "runs/own/run.json").read_text())
    assert not any(stage["reused"] for stage in record["stages"])
    assert {"source", "parts"} == set(record["plugins"][0])
    assert any(plugin["source"].startswith("sign_hash.py sha256:") for plugin in record["plugins"])
    evaluated = [stage["name"] for stage in record["stages"] if stage["kind"] == "evaluate"]
    assert sorted(evaluated) == sorted(
        f"{task}/tones/{subject}"
        for task in ("linear_probe", "knn_probe")
        for subject in ("untrained", "iteration 1", "log-mel")
    )


def test_a_second_run_repeats_nothing(finished: tuple[Path, Any], ossicle: Commands) -> None:
    folder, _ = finished
    before = json.loads((folder / "runs/own/run.json").read_text())
    cards = {path: path.stat().st_mtime_ns for path in (folder / "runs/.store").rglob("card.json")}
    shown = ossicle("run", folder / "runs/own/experiment.yaml", "--out", folder / "runs")
    assert shown.code == 0
    after = json.loads((folder / "runs/own/run.json").read_text())
    assert all(stage["reused"] for stage in after["stages"])
    assert [stage["key"] for stage in after["stages"]] == [stage["key"] for stage in before["stages"]]
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs/.store").rglob("card.json")} == cards


def test_damaged_artifacts_are_refused_and_made_again_by_the_next_run(
    finished: tuple[Path, Any], ossicle: Commands, tones: Path
) -> None:
    folder, _ = finished
    run, experiment = folder / "runs/own", folder / "runs/own/experiment.yaml"
    stages = json.loads((run / "run.json").read_text())["stages"]
    (encoder,) = [(run / stage["artifact"]).resolve() for stage in stages if stage["kind"] == "pretrain"]
    weights, card = encoder / "encoder.safetensors", (run / stages[-1]["artifact"]).resolve() / "card.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    card.write_text(card.read_text()[:20])

    shown = ossicle("embed", run, tones, "--out", folder / "embeddings.npz")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == (
        f"{weights} is damaged: it has 100 bytes instead of {len(whole):,}; "
        "repeat the run, or the import, that made it\n"
    )
    shown = ossicle("run", experiment, "--out", folder / "runs")
    assert (shown.code, shown.err) == (0, "")
    message = "".join(shown.out.split())
    for name, damage in (("iteration 1/pretrain", f"{weights} is damaged: it has 100"), (stages[-1]["name"], card)):
        assert f"warning `{name}` runs again: {damage}".replace(" ", "") in message
    assert weights.read_bytes() == whole
    again = json.loads((run / "run.json").read_text())["stages"]
    assert [stage["name"] for stage in again if not stage["reused"]] == ["iteration 1/pretrain", stages[-1]["name"]]
