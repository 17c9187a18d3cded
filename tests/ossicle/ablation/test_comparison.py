"""Verdicts on the folder of an ablation, and their tables."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from ossicle.ablation.comparison import compare
from ossicle.ablation.outcomes import Ablation
from ossicle.ablation.verdict_tables import print_comparison, verdict_markdown
from ossicle.cli import main
from ossicle.core.errors import ArtifactError
from ossicle.core.store import CARD, write_card

FakeStudy = Any


def words(folder: Path) -> dict[str, str]:
    return {one.variant: one.word for one in compare(folder).decisive.verdicts}


@pytest.fixture(scope="module")
def found(study: Path) -> Any:
    """The comparison of the full study."""
    return compare(study)


def test_verdicts_match_the_simulated_accuracies(found: Any) -> None:
    by_variant = {one.variant: one.word for one in found.decisive.verdicts}
    assert by_variant["self-distilled"] == "better"
    assert by_variant["collapsed"] == "worse"
    assert by_variant["k-means"] == by_variant["labels of only the position"] == "cannot tell"
    assert found.decisive.verdict("random projection") is None


def test_estimates_are_means_over_the_finished_seeds(found: Any) -> None:
    by_name = {one.variant: one for one in found.decisive.estimates}
    assert list(by_name["k-means"].of_seeds) == [0, 1]
    ours, theirs = by_name["self-distilled"], by_name["random projection"]
    assert ours.value == pytest.approx(np.mean(list(ours.of_seeds.values())))
    contrast = found.decisive.verdict("self-distilled").contrast
    assert contrast.value == pytest.approx(ours.value - theirs.value)
    assert contrast.low > 0.1


def test_a_failed_cell_is_reported_and_the_others_are_compared(found: Any) -> None:
    assert "not compared, because they are not done: k-means, seed 2" in found.problems


def test_the_headline_lists_the_findings(found: Any) -> None:
    assert found.headline.startswith("Better than random projection in linear_probe on tones: self-distilled (+")
    assert "Worse: collapsed (−" in found.headline
    assert "Cannot tell: k-means." in found.headline
    assert "four times in five" in found.headline
    assert "labels of only the position" not in found.headline


def test_every_metric_is_compared(found: Any) -> None:
    assert [one.metric for one in found.found] == [
        "linear_probe/tones/accuracy",
        "knn_probe/tones/accuracy",
        "linear_probe/tones/UAR",
    ]
    assert found.found[2].clips == 300


def test_a_gain_that_a_control_reaches_is_not_a_gain(fake_study: Callable[..., FakeStudy], variant: Any) -> None:
    study = fake_study().add(variant("random projection", 0.4)).add(variant("mine", 0.6))
    folder = study.add(variant("shuffled labels", 0.6, control=True)).write()
    comparison = compare(folder)
    verdict = comparison.decisive.verdict("mine")
    assert verdict is not None
    assert (verdict.word, list(verdict.reached_by)) == ("no gain", ["shuffled labels"])
    assert (
        "Mine is above it, but not shown to be above shuffled labels, so the gain cannot be attributed"
        in comparison.headline
    )
    assert "No variant is shown to be better" in comparison.headline


def test_variants_that_the_same_controls_reach_share_a_sentence(
    fake_study: Callable[..., FakeStudy], variant: Any
) -> None:
    study = fake_study().add(variant("random projection", 0.4)).add(variant("mine", 0.6)).add(variant("yours", 0.6))
    study.add(variant("place", 0.6, control=True))
    headline = compare(study.add(variant("shuffled", 0.6, control=True)).write()).headline
    assert "Mine and yours are above it, but not shown to be above place and shuffled, so the gain cannot" in headline


def test_a_gain_beyond_the_controls_counts(fake_study: Callable[..., FakeStudy], variant: Any) -> None:
    study = fake_study().add(variant("random projection", 0.4)).add(variant("mine", 0.75))
    assert words(study.add(variant("shuffled labels", 0.5, control=True)).write())["mine"] == "better"


def test_without_a_control_the_cause_of_a_gain_is_open(fake_study: Callable[..., FakeStudy], variant: Any) -> None:
    folder = fake_study().add(variant("random projection", 0.4)).add(variant("mine", 0.7)).write()
    assert compare(folder).headline.endswith("Without a control, the cause of a gain is open.")


def test_one_seed_cannot_tell(fake_study: Callable[..., FakeStudy], variant: Any) -> None:
    folder = fake_study(seeds=(0,)).add(variant("random projection", 0.4)).add(variant("mine", 0.8)).write()
    comparison = compare(folder)
    assert words(folder) == {"mine": "cannot tell"}
    assert comparison.headline.endswith("One seed cannot tell a gain from luck: add seeds.")
    assert "intervals over clips only" in comparison.decisive.basis


def test_a_large_variance_of_seeds_hides_a_difference(
    fake_study: Callable[..., FakeStudy], variant: Any, tmp_path: Path
) -> None:
    steady = fake_study().add(variant("random projection", 0.5, seed_sd=0)).add(variant("mine", 0.6, seed_sd=0)).write()
    assert words(steady) == {"mine": "better"}
    shutil.move(steady, tmp_path / "steady")
    wild = (
        fake_study().add(variant("random projection", 0.5, seed_sd=0.1)).add(variant("mine", 0.6, seed_sd=0.1)).write()
    )
    assert words(wild) == {"mine": "cannot tell"}


def test_a_cell_without_predictions_is_left_out(study: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "copy"))
    for path in folder.glob("cells/collapsed-seed*/artifacts/evaluate-*/predictions.npz"):
        path.unlink()
    comparison = compare(folder)
    assert comparison.decisive.verdict("collapsed") is None
    gone = "collapsed, seed 0: left out of linear_probe/tones/accuracy, because its predictions are missing"
    assert gone in comparison.problems


def test_cells_on_other_clips_are_left_out(study: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(study, tmp_path / "copy"))
    for path in folder.glob("cells/self-distilled-seed1/artifacts/*/predictions.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        np.savez(path, **{**arrays, "clips": arrays["clips"] + 1})
        write_card(path.parent, json.loads((path.parent / CARD).read_text()))
    comparison = compare(folder)
    assert any(
        "self-distilled, seed 1: left out" in text and "other test clips" in text for text in comparison.problems
    )


def test_a_failed_baseline_gives_no_verdict(fake_study: Callable[..., FakeStudy], variant: Any) -> None:
    failing = dict.fromkeys((0, 1, 2), "Interrupted")
    folder = fake_study().add(variant("random projection", 0.4), failing=failing).add(variant("mine", 0.6)).write()
    comparison = compare(folder)
    assert words(folder) == {"mine": "cannot tell"}
    assert "mine | " in verdict_markdown(comparison)


def edited(study: Path, folder: Path, **changes: Any) -> Path:
    about = json.loads((study / "ablation.json").read_text())
    folder.mkdir()
    (folder / "cells").symlink_to(study / "cells")
    (folder / "ablation.json").write_text(json.dumps(about | changes))
    return folder


def test_the_configured_encoder_is_judged(study: Path, tmp_path: Path) -> None:
    ablation = Ablation.read(edited(study, tmp_path / "edited", encoder="untrained"))
    assert {cell.subject for cell in ablation.cells if cell.record} == {"untrained"}
    assert {cell.subject for cell in Ablation.read(study).cells if cell.record} == {"iteration 1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "linear_probe/tones/mAUC"}, "the error of `mAUC` is unknown"),
        ({"metric": "linear_probe/birds/accuracy"}, "can be judged by linear_probe/birds/accuracy"),
        ({"encoder": "iteration 9"}, "no encoder called `iteration 9` was judged"),
        ({"baseline": "none"}, "is not as expected"),
        ({"cells": [{}]}, "is not as expected"),
    ],
)
def test_errors_say_what_cannot_be_compared(study: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        compare(edited(study, tmp_path / "edited", **changes))


def test_costs_include_the_inputs_of_an_encoder(study: Path) -> None:
    cell = Ablation.read(study).of("self-distilled")[0]
    cost = cell.cost()
    assert cost is not None
    assert cell.record is not None
    stages = {stage.name: stage for stage in cell.record.stages}
    needed = ("iteration 1/tokenizer", "iteration 1/pretrain")
    assert cost.seconds == pytest.approx(sum(stages[name].card["seconds"] for name in needed))
    assert cost.parameters == stages["iteration 1/pretrain"].card["metrics"]["parameters"] > 0
    assert cost.audio_hours == stages["iteration 1/pretrain"].card["metrics"]["audio_hours"] > 0


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_table_fits(found: Any, width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    print_comparison(console, found)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if "self-distilled" in line)
    assert "better" in row
    assert ("100 %" in row.replace("\N{NO-BREAK SPACE}", " ")) == (width == 120)


def test_the_markdown_table(found: Any) -> None:
    lines = verdict_markdown(found).splitlines()
    assert lines[0] == "| linear_probe on tones | accuracy | against random projection | p | verdict |"
    assert lines[2].startswith("| random projection |")
    assert lines[2].endswith("|  |  | baseline |")
    assert any(line.startswith("| labels of only the position (control) |") for line in lines)
    assert all(line.count("|") == 6 for line in lines[:7])
    assert lines[-1].startswith("Means in per cent, differences in points: 2 to 3 seeds and 300 test clips")


def test_the_verdict_on_the_command_line(study: Path, found: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", str(study), "--verdict", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == verdict_markdown(found) + "\n"
    assert main(["results", str(study), "--verdict"]) == 0
    assert "random projection" in capsys.readouterr().out
    assert main(["results", str(study), "--verdict", "--format", "csv"]) != 0
    assert "needs --format table or markdown, but it is csv" in capsys.readouterr().err
