"""Differences between two encoders on the same test clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ossicle.report.paired import difference
from ossicle.report.record import ProbeScore, Stage
from ossicle.tasks.evaluation.metrics import figure

CLIPS, CLASSES = 200, 5


def evaluated(
    folder: Path,
    truth: npt.NDArray[np.bool_],
    scores: npt.NDArray[Any],
    *,
    multi_label: bool = False,
    instead: dict[str, Any] | None = None,
) -> ProbeScore:
    """Make a score with its predictions in the files of an evaluation. `instead` replaces some of the arrays."""
    folder.mkdir()
    arrays = {"clips": np.arange(len(truth)), "truth": truth, "scores/mean": scores} | (instead or {})
    np.savez(folder / "predictions.npz", **arrays)
    (folder / "card.json").write_text("{}")
    (folder / "scores.json").write_text(json.dumps({"multi_label": multi_label}))
    stage = Stage("p", "evaluate", "", "", folder, False, 0.0, {}, {}, {}, is_evaluation=True)
    metric, value = "mAP" if multi_label else "accuracy", figure(truth, scores, multi_label=multi_label)
    return ProbeScore("p", "c", folder.name, "mean", metric, value, 0.0, 1.0, len(truth), stage=stage)


def one_hot(draw: np.random.Generator, clips: int = CLIPS) -> npt.NDArray[np.bool_]:
    return np.asarray(np.eye(CLASSES, dtype=bool)[draw.integers(CLASSES, size=clips)])


def right_where(truth: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    return np.where(right[:, None], truth, np.roll(truth, 1, axis=1)).astype(np.float64)


def test_against_mcnemars_normal_interval(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    truth = one_hot(draw)
    ours, theirs = (draw.random(CLIPS) < share for share in (0.7, 0.55))
    found = difference(
        evaluated(tmp_path / "ours", truth, right_where(truth, ours)),
        evaluated(tmp_path / "theirs", truth, right_where(truth, theirs)),
    )
    gained = ours.astype(float) - theirs
    error = 1.96 * gained.std() / np.sqrt(CLIPS)
    assert found is not None
    assert found.value == pytest.approx(gained.mean())
    assert (found.low, found.high) == pytest.approx((gained.mean() - error, gained.mean() + error), abs=0.015)


def test_a_difference_that_overlapping_intervals_hide(tmp_path: Path) -> None:
    truth = one_hot(np.random.default_rng(0))
    right = np.arange(CLIPS) < 100
    more = right | (np.arange(CLIPS) < 110)
    ours = evaluated(tmp_path / "ours", truth, right_where(truth, more))
    theirs = evaluated(tmp_path / "theirs", truth, right_where(truth, right))
    found, back = difference(ours, theirs), difference(theirs, ours)
    assert found is not None
    assert back is not None
    assert (found.value, found.low > 0) == (pytest.approx(0.05), True)
    assert (back.value, back.high < 0) == (pytest.approx(-0.05), True)


def test_the_same_predictions_do_not_differ(tmp_path: Path) -> None:
    truth = one_hot(np.random.default_rng(0))
    scores = np.random.default_rng(1).normal(size=truth.shape)
    found = difference(evaluated(tmp_path / "ours", truth, scores), evaluated(tmp_path / "theirs", truth, scores))
    assert found is not None
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_several_labels_are_compared_by_average_precision(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    truth = draw.random((CLIPS, CLASSES)) < 0.3
    noise = draw.normal(size=truth.shape)
    found = difference(
        evaluated(tmp_path / "ours", truth, noise + 2.0 * truth, multi_label=True),
        evaluated(tmp_path / "theirs", truth, noise + 1.0 * truth, multi_label=True),
    )
    assert found is not None
    assert 0 < found.low < found.value < found.high


@pytest.mark.slow
def test_one_in_twenty_false_alarms(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    truth = one_hot(draw)
    alarms = 0
    for trial in range(60):
        shared = draw.random(CLIPS) < 0.8
        ours, theirs = (np.where(shared, np.arange(CLIPS) % 2 == 0, draw.random(CLIPS) < 0.5) for _ in range(2))
        found = difference(
            evaluated(tmp_path / f"ours {trial}", truth, right_where(truth, ours)),
            evaluated(tmp_path / f"theirs {trial}", truth, right_where(truth, theirs)),
        )
        assert found is not None
        alarms += found.low > 0 or found.high < 0
    assert 0 < alarms <= 7


@pytest.mark.parametrize(
    "other",
    [
        {"instead": {"clips": np.arange(CLIPS) + 1}},
        {"instead": {"truth": np.zeros((CLIPS, CLASSES), bool)}},
        {"instead": {"clips": np.arange(3), "truth": np.zeros((3, CLASSES), bool)}},
        {"multi_label": True},
    ],
)
def test_predictions_on_other_clips_are_not_paired(tmp_path: Path, other: dict[str, Any]) -> None:
    truth = one_hot(np.random.default_rng(0))
    scores = np.random.default_rng(1).normal(size=truth.shape)
    ours = evaluated(tmp_path / "ours", truth, scores)
    assert difference(ours, evaluated(tmp_path / "theirs", truth, scores, **other)) is None


def test_missing_or_damaged_predictions_are_not_paired(tmp_path: Path) -> None:
    truth = one_hot(np.random.default_rng(0))
    ours, theirs = (evaluated(tmp_path / name, truth, truth.astype(float)) for name in ("ours", "theirs"))
    assert difference(ours, theirs) is not None
    (tmp_path / "theirs" / "predictions.npz").write_bytes(b"PK\x03\x04 cut short")
    assert difference(ours, theirs) is None
    (tmp_path / "theirs" / "predictions.npz").unlink()
    assert difference(ours, theirs) is None
    assert difference(ours, ProbeScore("p", "c", "x", "mean", "accuracy", 0.5, 0.4, 0.6, CLIPS)) is None


def test_an_unknown_metric_is_not_paired(tmp_path: Path) -> None:
    truth = one_hot(np.random.default_rng(0))
    ours, theirs = (evaluated(tmp_path / name, truth, truth.astype(float)) for name in ("ours", "theirs"))
    odd = ProbeScore(**{**vars(ours), "metric": "F1"})
    assert difference(odd, theirs) is None
