"""Information of tokens about class and position: cases with known results, and the chance level."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ossicle.core.manifest import Manifest
from ossicle.experiment.run import run
from ossicle.tasks.stages.token_statistics import TokenStatistics, mean_statistics, token_statistics

BANDS, COLUMNS, CLIPS = 4, 6, 60


def manifest(classes: int, *, multi_label: bool = False) -> Manifest:
    paths = np.array([f"{number}.wav" for number in range(CLIPS)])
    return Manifest(
        Path(),
        paths,
        np.ones(CLIPS, dtype=np.int64),
        np.full(CLIPS, 16000, dtype=np.int32),
        np.full(CLIPS, "train"),
        [(number % classes,) for number in range(CLIPS)],
        tuple("abcdef"[:classes]),
        multi_label=multi_label,
    )


def figures(tokens: list[np.ndarray], classes: int = 3, size: int = 64, **options: bool) -> TokenStatistics:
    return token_statistics(tokens, manifest(classes, **options), bands=BANDS, codebook_size=size, seed=0)


def test_tokens_that_equal_the_position() -> None:
    found = figures([np.arange(COLUMNS * BANDS)] * CLIPS)
    assert found.position_information == pytest.approx(1.0)
    assert found.label_information == pytest.approx(0.0, abs=1e-9)
    assert found.perplexity == pytest.approx(COLUMNS * BANDS)
    assert (found.used, found.codebook_size, found.clips) == (COLUMNS * BANDS, 64, CLIPS)
    assert 0 < found.band_information < found.column_information < 1


def test_tokens_that_equal_the_class() -> None:
    found = figures([np.full(COLUMNS * BANDS, number % 3) for number in range(CLIPS)])
    assert found.label_information == pytest.approx(1.0)
    assert found.label_chance is not None
    assert found.label_chance < 0.1
    assert found.position_information == pytest.approx(0.0, abs=1e-9)


def test_random_tokens_have_the_chance_level_of_information() -> None:
    generator = np.random.default_rng(0)
    found = figures([generator.integers(0, 64, COLUMNS * BANDS) for _ in range(CLIPS)])
    assert found.label_information is not None
    assert found.label_chance is not None
    assert found.label_information > 0.01, "mutual information is never zero on finite data"
    assert found.label_information == pytest.approx(found.label_chance, abs=0.01)


def test_clips_of_unequal_length_keep_their_classes() -> None:
    found = figures([np.full(BANDS * (1 + number % 5), number % 3) for number in range(CLIPS)])
    assert found.label_information == pytest.approx(1.0)


def test_several_labels_per_clip_give_no_label_information() -> None:
    found = figures([np.zeros(BANDS, dtype=np.int64)] * CLIPS, multi_label=True)
    assert found.label_information is None
    assert found.label_chance is None


def test_statistics_of_several_streams_are_means() -> None:
    position = figures([np.arange(COLUMNS * BANDS)] * CLIPS)
    label = figures([np.full(COLUMNS * BANDS, number % 3) for number in range(CLIPS)])
    both = mean_statistics([position, label])
    assert (both.streams, both.codebook_size, both.clips) == (2, 64, CLIPS)
    assert both.used == round((24 + 3) / 2)
    assert both.position_information == pytest.approx(0.5)
    assert both.label_information == pytest.approx(0.5)
    assert both.perplexity == pytest.approx((24 + 3) / 2)
    assert mean_statistics([label]) == label
    unlabelled = figures([np.zeros(BANDS, dtype=np.int64)] * CLIPS, multi_label=True)
    assert mean_statistics([unlabelled] * 2).label_information is None


@pytest.mark.slow
@pytest.mark.parametrize(("split", "splits"), [("unlabelled", "[train, unlabelled]"), ("valid", "[valid]")])
@pytest.mark.usefixtures("no_report")
def test_a_corpus_without_training_clips_is_measured_on_the_clips_of_pre_training(
    split: str, splits: str, tiny: Path, tones: Path, tmp_path: Path
) -> None:
    shutil.copytree(tones / "train", tmp_path / "mine" / split)
    overrides = ["evaluate=[]", f"corpus.path={tmp_path / 'mine'}", f"pretrain.splits={splits}", "pretrain.steps=2"]
    folder = run(tiny, overrides=overrides, out=tmp_path / "runs")
    stages = json.loads((folder / "run.json").read_text())["stages"]
    (artifact,) = (folder / stage["artifact"] for stage in stages if stage["kind"] == "tokens")
    found = json.loads((artifact / "tokens.json").read_text())
    assert found["clips"] == 12
    assert found["used"] > 1
    assert (found["label_information"] is None) == (split == "unlabelled")
