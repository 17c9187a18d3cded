"""`ossicle results`: runs and ablations in one table, in every format."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from ossicle.ablation.results import gather, written
from ossicle.cli import main
from ossicle.core.errors import ArtifactError

QUESTIONS = [(task, metric) for task in ("linear_probe", "knn_probe") for metric in ("accuracy", "UAR")]


@pytest.fixture
def other_run(tiny_run: Path) -> Path:
    """A copy of the real run that states another seed and another number of codes."""
    other = tiny_run.parent / "other"
    shutil.copytree(tiny_run, other, dirs_exist_ok=True)
    config = (tiny_run / "experiment.yaml").read_text().replace("codebook_size: 16", "codebook_size: 32")
    (other / "experiment.yaml").write_text(
        config.replace("\nseed: 0", "\nseed: 5").replace("name: tiny", "name: other")
    )
    return other


@pytest.fixture
def ablation(tiny_run: Path) -> Path:
    """An ablation of one axis. Its cells are the real run, and one has failed."""
    folder = tiny_run.parent / "study"
    folder.mkdir(exist_ok=True)
    cells = [
        {"variant": name, "seed": seed, "run": "../tiny", "state": "done", "error": None}
        for name, seed in (("plain & simple", 0), ("50%_|more|", 0))
    ]
    cells.append({"variant": "plain & simple", "seed": 1, "run": "gone", "state": "failed", "error": "no luck"})
    variants = [{"name": name, "values": {"part": name}} for name in ("plain & simple", "50%_|more|")]
    record = {"name": "study", "variants": variants, "cells": cells}
    (folder / "ablation.json").write_text(json.dumps(record))
    return folder


def test_every_encoder_and_metric_has_a_row(tiny_run: Path) -> None:
    results = gather([tiny_run])
    assert results.columns == []
    found = {(row.encoder, row.task, row.metric) for row in results.rows}
    encoders = ("untrained", "log-mel", "iteration 1")
    assert found == {(encoder, *question) for encoder in encoders for question in QUESTIONS}
    assert len(results.rows) == len(found)
    for row in results.rows:
        assert 0 <= row.value <= 1
        if row.metric == "accuracy":
            assert row.low is not None
            assert row.high is not None
            assert row.low <= row.value <= row.high
            assert row.clips == 6
        else:
            assert row.low is row.high is None


def test_runs_are_identified_by_the_settings_that_differ(tiny_run: Path, other_run: Path) -> None:
    results = gather([tiny_run, other_run])
    size = "schedule.iterations.0.tokenizer.codebook_size"
    assert sorted(results.columns) == [size, "seed"]
    settings = {row.run: dict(row.differs) for row in results.rows}
    assert settings == {str(tiny_run): {size: 16, "seed": 0}, str(other_run): {size: 32, "seed": 5}}


def test_cells_are_identified_by_axes_and_seed(ablation: Path, other_run: Path) -> None:
    results = gather([ablation])
    assert results.columns == ["part", "seed"]
    assert [dict(row.differs) for row in results.rows][:: len(QUESTIONS) * 3] == [
        {"part": "plain & simple", "seed": 0},
        {"part": "50%_|more|", "seed": 0},
    ]
    assert results.notes == [f"{ablation}: plain & simple, seed 1 failed: no luck"]
    assert gather([ablation, other_run]).columns == ["ablation", "part", "seed"]


def test_a_folder_that_is_neither_a_run_nor_an_ablation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is neither a run nor an ablation: it holds no run\.json and no ablation"):
        gather([tmp_path])


def test_formats_for_programs_have_every_figure(ablation: Path) -> None:
    results = gather([ablation])
    loaded = json.loads(written(results, "json"))
    assert [row["value"] for row in loaded] == [row.value for row in results.rows]
    assert loaded[0].keys() >= {"run", "part", "seed", "encoder", "task", "corpus", "metric", "view", "low", "high"}
    rows = list(csv.DictReader(io.StringIO(written(results, "csv"))))
    assert [row["part"] for row in rows] == [str(row["part"]) for row in loaded]
    for row, same in zip(rows, loaded, strict=True):
        assert float(row["value"]) == same["value"]
        assert row["low"] == ("" if same["low"] is None else str(same["low"]))


def test_formats_for_people(ablation: Path) -> None:
    results = gather([ablation])
    lines = written(results, "markdown").splitlines()
    assert lines[0].startswith("| part | seed | encoder | task | corpus | metric | view | value | 95 % | clips |")
    assert len(lines) == 2 + len(results.rows)
    assert lines[-1].startswith(r"| 50%_\|more\| | 0 |")
    latex = written(results, "latex")
    assert latex.startswith("\\begin{tabular}{lllllllrrr}\n\\toprule\npart & seed & encoder & ")
    assert r"plain \& simple & 0 & " in latex
    assert r"50\%\_|more| & 0 & " in latex
    assert latex.count(r" \\") == 1 + len(results.rows)
    assert latex.endswith("\\bottomrule\n\\end{tabular}\n")


def test_results_in_the_terminal(ablation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", str(ablation)]) == 0
    shown = capsys.readouterr()
    assert "linear_probe/tones/accuracy\n" in shown.out
    assert "plain & simple" in shown.out
    assert shown.err == f"note: {ablation}: plain & simple, seed 1 failed: no luck\n"
    assert main(["results", str(ablation), "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("run,part,seed,encoder,")
