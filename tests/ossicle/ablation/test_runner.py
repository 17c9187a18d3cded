"""Running an ablation: shared stages, failures, and continuing after a stop, a kill or a change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ossicle
from ossicle.ablation.cells import CheckedCell, check_cells
from ossicle.ablation.order import next_cell
from ossicle.ablation.record import read_ablation
from ossicle.ablation.study import load_study
from ossicle.cli import main
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.store import CARD, Store, write_card
from ossicle.plugins.launcher_interface import Job, Launcher

pytestmark = pytest.mark.usefixtures("own_plugins")

PLUGIN = Path(__file__).parent / "counting.py"
STUDY = """\
base:
  name: base
  plugins: [{plugin}]
  corpus: {{type: folder, path: {tones}, labels: folders}}
  front_end: {{type: kaldi_fbank, mel_bins: 32}}
  encoder: {{type: plain_vit, size: tiny}}
  schedule: {{type: counting, diary: {diary}, seconds: {seconds}}}
  pretrain: {{steps: 1, objective: masked_prediction}}
vary:
  part:
    plain: {{}}
    better: {{schedule.label: better, schedule.right: 0.95}}
    broken: {{schedule.label: broken, schedule.fails: true}}
seeds: [0, 1]
compare: {{metric: probe/tones/accuracy, baseline: plain}}
"""
TIMEOUT = 240.0
"""Seconds that a busy machine may need to start a process."""


class Inline(Launcher):
    """Runs every job immediately in this process."""

    def __init__(self, config: InlineConfig) -> None:
        pass

    def submit(self, name: str, function: Callable[..., Any], *arguments: Any) -> Job:
        return _Done(function(*arguments))

    def close(self) -> None:
        pass


class InlineConfig(ossicle.Config):
    """No settings."""


class _Done:
    def __init__(self, result: Any) -> None:
        self._result = result

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        return self._result

    def cancel(self) -> None:
        raise AssertionError("it is over")


@pytest.fixture
def study(tones: Path, tmp_path: Path) -> Path:
    """An ablation of three variants with two seeds. The last variant fails."""
    ossicle.launcher("inline")(Inline)
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(plugin=PLUGIN, tones=tones, diary=tmp_path / "diary", seconds=0))
    return path


def set_duration(study: Path, seconds: float) -> None:
    study.write_text(re.sub(r"seconds: \S+}", f"seconds: {seconds}}}", study.read_text()))


def diary_entries(study: Path) -> list[tuple[str, int, int]]:
    """Read the diary: name, seed and process of every stage that was started."""
    diary = study.parent / "diary"
    lines = diary.read_text().split("\n")[:-1] if diary.exists() else []
    return [(name, int(seed), int(process)) for name, seed, process in map(str.split, lines)]


def counts(study: Path) -> Counter[tuple[str, int]]:
    return Counter((name, seed) for name, seed, _ in diary_entries(study))


def states(study: Path) -> dict[str, str]:
    found = read_ablation(study.parent / "runs" / "study")
    return {f"{cell['variant']} {cell['seed']}": cell["state"] for cell in found["cells"]}


def start(study: Path, *options: str) -> subprocess.Popen[str]:
    """Start the ablation in a new process, as a user does."""
    command = [sys.executable, "-m", "ossicle", "ablate", str(study), *options]
    environment = {**os.environ, "COLUMNS": "200"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=study.parent, stdout=pipe, stderr=pipe, text=True, env=environment)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_an_ablation_continues_after_a_stop_and_a_kill(study: Path) -> None:
    """Uses new processes and runs two cells at a time."""
    set_duration(study, 600.0)
    stopped = start(study, "--jobs", "2")
    wait_for(lambda: sum(name == "own" for name, _, _ in diary_entries(study)) == 2)
    stopped.terminate()
    out, err = stopped.communicate(timeout=TIMEOUT)
    assert (stopped.returncode, err) == (
        130,
        "stopped; 0 of 6 cells are done, and the progress of the others is saved. "
        "To continue, run the same command again.\n",
    )
    assert "6 cells, 0 done; 14 stages, of which 2 are shared by several cells and 0 are done" in out
    assert set(states(study).values()) == {"waiting"}
    first = {process for _, _, process in diary_entries(study)}
    assert len(first) == 2
    assert not any(map(is_running, first))

    killed = start(study, "--jobs", "2")
    wait_for(lambda: sum(name == "own" for name, _, _ in diary_entries(study)) == 4)
    killed.kill()
    killed.communicate()
    second = {process for _, _, process in diary_entries(study)} - first
    wait_for(lambda: not any(map(is_running, second)))
    assert counts(study)["shared", 0] == 1

    set_duration(study, 0.2)
    (study.parent / "diary").unlink()
    ended = start(study, "--jobs", "2")
    out, err = ended.communicate(timeout=TIMEOUT)
    assert (ended.returncode, err) == (1, "")
    # The stage that all variants share is made at most once for each seed, and possibly before the kill.
    found = counts(study)
    assert all(found["shared", seed] <= 1 for seed in (0, 1))
    assert {seed: found["own", seed] for seed in (0, 1)} == {0: 3, 1: 3}
    assert states(study) == {
        f"{variant} {seed}": "failed" if variant == "broken" else "done"
        for variant in ("plain", "better", "broken")
        for seed in (0, 1)
    }
    assert out.count("broken, seed 0 failed at own: ValueError: no luck") == 2
    assert "log: runs/study/cells/broken-seed0/log.txt" in out
    assert "2 cells failed" in out
    assert "report: runs/study/report.html" in out


@pytest.mark.slow
def test_the_record_has_the_variants_and_the_outcome_of_each_cell(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", str(study), "launcher=inline", "--out", str(study.parent / "runs")]) == 1
    folder = study.parent / "runs" / "study"
    found = read_ablation(folder)
    assert found["axes"] == {"part": ["plain", "better", "broken"]}
    assert found["variants"][1] == {
        "name": "better",
        "control": False,
        "values": {"part": "better"},
        "overrides": ['schedule.label="better"', "schedule.right=0.95"],
        "patch": {"schedule.label": "better", "schedule.right": 0.95},
    }
    assert (found["baseline"], found["metric"], found["seeds"]) == ("plain", "probe/tones/accuracy", [0, 1])
    assert "counting" in found["base"]
    assert found["finished"] >= found["started"]
    assert found["machine"]["cores"] >= 1
    done, failed = found["cells"][0], found["cells"][4]
    assert (done["state"], done["error"], done["run"]) == ("done", None, "cells/plain-seed0")
    assert (failed["state"], failed["error"], failed["stage"]) == ("failed", "ValueError: no luck", "own")
    assert 'raise ValueError("no luck")' in (folder / failed["run"] / "log.txt").read_text()
    # A cell is an ordinary run, and its record has the command that repeats it.
    run = json.loads((folder / done["run"] / "run.json").read_text())
    assert run[
        "command"
    ] == f"ossicle run {folder}/cells/plain-seed0/experiment.yaml --out {folder}/cells --store " + str(
        study.parent / "runs" / ".store"
    )
    assert (folder / done["run"] / run["stages"][0]["artifact"] / "card.json").is_file()
    before = counts(study)
    capsys.readouterr()
    assert main([*run["command"].split()[1:], "seed=0"]) == 0
    assert counts(study) == before


@pytest.mark.slow
def test_only_missing_stages_run_again(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ablate", str(study), "launcher=inline", "--out", str(study.parent / "runs")]
    assert main([*arguments, "except=[{part: broken}]"]) == 0
    before = counts(study)
    started = read_ablation(study.parent / "runs" / "study")["started"]
    capsys.readouterr()
    assert main([*arguments, "except=[{part: broken}]"]) == 0
    assert counts(study) == before
    assert (
        "4 cells, 4 done; 10 stages, of which 2 are shared by several cells and 10 are done" in capsys.readouterr().out
    )
    assert read_ablation(study.parent / "runs" / "study")["started"] == started
    # A changed setting of one variant reruns only the cells of this variant.
    study.write_text(study.read_text().replace("0.95", "0.9"))
    assert main([*arguments, "except=[{part: broken}]"]) == 0
    assert counts(study) - before == {("own", 0): 1, ("own", 1): 1}


@pytest.mark.slow
def test_fail_fast(study: Path) -> None:
    study.write_text(
        study.read_text().replace("schedule.label: better", "schedule.fails: true, schedule.label: better")
    )
    arguments = ["ablate", str(study), "launcher=inline", "--out", str(study.parent / "runs"), "--fail-fast"]
    assert main(arguments) == 1
    assert list(states(study).values()) == ["done", "waiting", "failed", "waiting", "waiting", "waiting"]
    assert read_ablation(study.parent / "runs" / "study")["finished"] is None


def test_a_dry_run_makes_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", str(study), "--dry-run", "--out", str(study.parent / "runs")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"variant +seed 0 +seed 1 ", out)
    assert re.search(r"plain  baseline +to do +to do", out)
    assert "expected time unknown: 14 stages without a finished stage of the same kind; `--calibrate` measures" in out
    assert sorted(path.name for path in study.parent.iterdir()) == ["study.yaml"]


@pytest.mark.slow
def test_the_expected_time_comes_from_stages_of_the_same_kind(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = ["--out", str(study.parent / "runs")]
    assert main(["ablate", str(study), "launcher=inline", "only=[{part: plain, seed: 0}]", *runs]) == 0
    taken = {"shared": 100.0, "own": 7.0, "probe": 1.0}
    for path in (study.parent / "runs" / ".store").glob(f"*/{CARD}"):
        card = json.loads(path.read_text())
        write_card(path.parent, {**card, "seconds": taken[card["kind"]]})
    capsys.readouterr()
    assert main(["ablate", str(study), "except=[{part: broken}]", "--dry-run", *runs]) == 0
    out = capsys.readouterr().out
    assert re.search(r"plain  baseline +done +to do", out)
    assert re.search(r"better +1 of 3 stages done +to do", out)
    # To do: the stage that the variants share, with the other seed, and the two other stages of three cells.
    assert re.search(r"expected: 2\smin 04\ss of work", out)


def test_a_broken_cell_is_refused_before_anything_runs(study: Path, tones: Path) -> None:
    text = study.read_text().replace("schedule.fails: true", "corpus: {type: folder, path: ./nowhere}")
    study.write_text(text)
    assert main(["ablate", str(study), "--out", str(study.parent / "runs")]) == 2
    assert not (study.parent / "runs").exists()


# Order of the cells


@pytest.fixture
def trained(tiny: Path) -> list[CheckedCell]:
    """Cells of a study in which two variants need the encoder that a third one trains, too."""
    distilled = "{tokenizer: {type: self_distilled, codebook_size: 16, codebook_dim: 8}"
    first = "{tokenizer: {type: random_projection, codebook_size: 16, codebook_dim: 8}}"
    path = tiny.parent / "order.yaml"
    path.write_text(f"""\
base: {{base: ./tiny.yaml, schedule: {{distill: {{steps: 4}}}}}}
vary:
  tokenizer:
    position: {{schedule.iterations.0.tokenizer: position}}
    distilled: {{schedule.iterations: [{first}, {distilled}}}]}}
    distilled longer: {{schedule.iterations: [{first}, {distilled}, distill: {{steps: 8}}}}]}}
    random projection: {{}}
seeds: [0, 1]
compare: {{metric: knn_probe/tones/accuracy, baseline: position}}
""")
    study = load_study(path, catalog=load_plugins().catalog)
    cells = check_cells(study, Store(tiny.parent), prepare=False)
    return sorted(cells, key=lambda cell: cell.cell.seed)


def test_shared_trainings_come_first_and_no_training_runs_twice(trained: list[CheckedCell], tmp_path: Path) -> None:
    store = Store(tmp_path)
    waiting, running = list(trained), []
    for _ in range(3):
        cell = next_cell(waiting, running, store)
        if cell is not None:
            waiting.remove(cell)
            running.append(cell)
    # The first cell that needs the shared encoder of its seed starts first, and the others of that seed wait for it.
    assert [cell.cell.title for cell in running] == ["distilled, seed 0", "distilled, seed 1", "position, seed 0"]
    assert next_cell([cell for cell in waiting if "position" not in cell.cell.title], running, store) is None


def test_a_cell_starts_when_its_shared_training_is_done(trained: list[CheckedCell], tmp_path: Path) -> None:
    store = Store(tmp_path)
    by_title = {cell.cell.title: cell for cell in trained}
    running, waiting = by_title["distilled, seed 0"], by_title["distilled longer, seed 0"]
    assert next_cell([waiting], [running], store) is None
    key = next(one.key for one in running.stages if one.stage.name == "iteration 1/pretrain")
    assert key is not None
    artifact = tmp_path / f"pretrain-{key[:16]}"
    artifact.mkdir()
    (artifact / "card.json").write_text("{}")
    assert next_cell([waiting], [running], store) is waiting
