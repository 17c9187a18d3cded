"""Training, validation and test clips, with and without folds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossicle.audio.corpus_overview import CorpusOverview
from ossicle.core.errors import CorpusError
from ossicle.core.manifest import Manifest
from ossicle.tasks.evaluation.folds import label_problems
from ossicle.tasks.evaluation.protocols import NO_FOLD, protocols


def manifest(folds, *, splits=None, labels=None):
    """Create a manifest whose clips alternate between two classes, by default all in the split `train`."""
    count = len(folds)
    return Manifest(
        root=Path("."),
        paths=np.array([f"{number}.wav" for number in range(count)]),
        frames=np.full(count, 16000, np.int64),
        sample_rates=np.full(count, 16000, np.int32),
        splits=np.array(splits or ["train"] * count),
        labels=labels or [(number % 2,) for number in range(count)],
        label_names=("a", "b"),
        folds=np.array(folds, np.int32),
    )


@st.composite
def folded(draw):
    """Draw a corpus of three folds or more, of any sizes, numbers and order, with some clips outside the folds."""
    numbers = draw(st.lists(st.integers(0, 20), min_size=3, max_size=6, unique=True))
    sizes = draw(st.lists(st.integers(1, 4), min_size=len(numbers), max_size=len(numbers)))
    folds = [number for number, size in zip(numbers, sizes, strict=True) for _ in range(2 * size)]
    splits = [draw(st.sampled_from(["train", "train", "valid"])) for _ in folds]
    aside = [("train", -1), ("valid", -1), ("unlabelled", -1), ("unlabelled", numbers[0])]
    for split, fold in draw(st.lists(st.sampled_from(aside), max_size=6)):
        folds.append(fold)
        splits.append(split)
    clips = manifest(folds, splits=splits)
    return clips.take(np.array(draw(st.permutations(range(len(folds))))))


@pytest.mark.slow
@given(folded())
def test_each_fold_is_tested_once_by_a_model_that_did_not_use_it(clips):
    found = protocols(clips)
    inside = np.flatnonzero((clips.folds >= 0) & (clips.splits != "unlabelled"))
    tested = np.concatenate([splits.test.rows for splits in found])
    assert sorted(tested) == inside.tolist()
    folds = [splits.fold for splits in found]
    assert folds == sorted(set(clips.folds[inside]))
    for splits, following in zip(found, [*folds[1:], folds[0]], strict=True):
        train, valid, test = (set(rows.rows.tolist()) for rows in (splits.train, splits.valid, splits.test))
        assert len(train | valid | test) == len(train) + len(valid) + len(test)
        assert set(clips.folds[list(test)]) == {splits.fold}
        assert set(clips.folds[list(valid)]) - {NO_FOLD} == {following}
        assert train | valid | test == set(clips.rows_in("train", "valid").tolist())
        for rows, split in ((train, "train"), (valid, "valid")):
            aside = {row for row in rows if clips.folds[row] < 0}
            assert aside == {row for row in clips.rows_in(split).tolist() if clips.folds[row] < 0}
        for rows in (splits.train, splits.valid, splits.test):
            assert [tuple(np.flatnonzero(one)) for one in rows.truth] == [clips.labels[row] for row in rows.rows]


def test_a_test_split_takes_precedence_over_folds():
    clips = manifest([0, 0, 1, 1, 2, 2], splits=["train", "train", "valid", "valid", "test", "test"])
    (splits,) = protocols(clips)
    assert (splits.train.rows.tolist(), splits.valid.rows.tolist(), splits.test.rows.tolist()) == (
        [0, 1],
        [2, 3],
        [4, 5],
    )
    assert splits.fold == NO_FOLD
    assert label_problems(CorpusOverview.of(clips)) == []


def test_validation_is_the_next_fold_cyclically():
    found = protocols(manifest([7, 7, 1, 1, 4, 4]))
    assert [splits.fold for splits in found] == [1, 4, 7]
    assert [splits.valid.rows.tolist() for splits in found] == [[4, 5], [0, 1], [2, 3]]


def test_two_folds_are_too_few():
    clips = manifest([0, 0, 1, 1])
    needed = "Cross-validation needs three or more: one for testing, the next for validation, the others for training"
    with pytest.raises(CorpusError, match=f"this corpus has 2 folds and no `test` clips. {needed}"):
        protocols(clips)
    assert label_problems(CorpusOverview.of(clips)) == [f"the corpus has 2 folds and no split `test`. {needed}"]


def test_a_fold_without_training_clips_of_a_class_is_named():
    clips = manifest([0, 0, 1, 1, 2, 2], labels=[(0,), (1,), (0,), (0,), (0,), (1,)])
    with pytest.raises(
        CorpusError, match="with fold 2 as `test` and fold 0 as `valid`: no `train` clip carries `b`; move clips"
    ):
        protocols(clips)


def test_every_fold_needs_labels():
    clips = manifest([0, 0, 1, 1, 2, 2])
    assert label_problems(CorpusOverview.of(clips)) == []
    partly = replace(clips, labels=[(0,), (1,), (), (), (0,), (1,)])
    assert label_problems(CorpusOverview.of(partly)) == ["the corpus has no labelled clip in its fold 1"]
    by_name = "or name its clips in a table's split column"
    assert label_problems(CorpusOverview.of(manifest([-1, -1]))) == [
        f"the corpus has no labelled clip in its split `valid`: draw some by `valid_share`, {by_name}",
        f"the corpus has no labelled clip in its split `test`: draw some by a folder's `test_share`, {by_name}",
    ]
