"""Subsets with a share of every class, and weights that balance rare and common classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile  # before fairseq2
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossicle.audio.corpora.folder import FolderCorpus
from ossicle.audio.corpus_config import FolderConfig
from ossicle.audio.front_end_config import KaldiFbankConfig
from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.audio.pipeline import training_pipeline
from ossicle.tasks.evaluation.subsets import balanced_weights, label_subset

Truth = npt.NDArray[np.bool_]
quick = settings(max_examples=50, deadline=None)
several_labels = st.integers(1, 4).flatmap(lambda classes: arrays(np.bool_, (20, classes)))
one_label = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(lambda labels: np.eye(4, dtype=np.bool_)[labels])
shares = st.floats(0.01, 1.0)


@quick
@given(one_label, shares, st.integers(0, 9))
def test_with_one_label_per_clip_each_class_gives_its_share(truth: Truth, share: float, seed: int) -> None:
    subset = label_subset(truth, share, seed=seed)
    assert subset.tolist() == sorted(set(subset.tolist()))
    for count, drawn in zip(truth.sum(0), truth[subset].sum(0), strict=True):
        assert drawn == (max(1, round(share * count)) if count else 0)


@quick
@given(one_label, shares, shares, st.integers(0, 9))
def test_a_larger_share_with_one_seed_contains_a_smaller_one(truth: Truth, one: float, two: float, seed: int) -> None:
    small, large = (set(label_subset(truth, share, seed=seed).tolist()) for share in sorted((one, two)))
    assert small <= large


@quick
@given(several_labels, shares, st.integers(0, 9))
def test_with_several_labels_per_clip_every_class_gives_at_least_its_share(
    truth: Truth, share: float, seed: int
) -> None:
    subset = label_subset(truth, share, seed=seed)
    assert (truth[subset].sum(0) >= np.minimum(truth.sum(0), np.maximum(1, np.round(share * truth.sum(0))))).all()
    assert np.array_equal(subset, label_subset(truth, share, seed=seed))


@given(several_labels)
def test_a_share_of_one_is_every_clip(truth: Truth) -> None:
    assert np.array_equal(label_subset(truth, 1.0, seed=3), np.arange(len(truth)))


def test_another_seed_draws_other_clips() -> None:
    truth = np.eye(2, dtype=np.bool_)[np.arange(100) % 2]
    assert set(label_subset(truth, 0.1, seed=0)) != set(label_subset(truth, 0.1, seed=1))


def test_balanced_weights_sum_one_over_the_clips_of_each_label() -> None:
    truth = np.array([[1, 0], [1, 0], [1, 1], [1, 0], [0, 0]], dtype=np.bool_)
    # Four clips have the first label, one of them also the second, and one clip has none.
    assert balanced_weights(truth) * 2 == pytest.approx([0.25, 0.25, 1.25, 0.25, 0.0])


@given(one_label)
def test_with_one_label_per_clip_every_class_has_the_same_weight(truth: Truth) -> None:
    weights = balanced_weights(truth)
    of_class = [weights[truth[:, column]].sum() for column in np.flatnonzero(truth.any(0))]
    assert of_class == pytest.approx([1 / len(of_class)] * len(of_class))


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Create a stream of 32 clips. The last two together have the weight of all others."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for number in range(32):
        soundfile.write(folder / f"{number:02}.wav", rng.uniform(-0.5, 0.5, 1600 + 40 * number), 16000)
    manifest = FolderCorpus(FolderConfig(path=folder)).manifest()
    front_end = KaldiFbank(KaldiFbankConfig(mel_bins=32))
    truth = np.eye(2, dtype=np.bool_)[[0] * 30 + [1] * 2]

    def make() -> Any:
        return training_pipeline(
            manifest,
            np.arange(32),
            front_end,
            batch_seconds=0.6,
            crop_seconds=1.0,
            seed=4,
            weights=balanced_weights(truth),
        )

    return make


def test_clips_are_drawn_as_often_as_their_weights_say(stream: Any) -> None:
    rows = torch.cat([batch.clips for batch, _ in zip(stream(), range(300), strict=False)])
    counts = torch.bincount(rows, minlength=32)
    assert counts.min() > 0
    assert counts[30:].sum() / counts.sum() == pytest.approx(0.5, abs=0.04)


def test_a_weighted_stream_continues_exactly_where_it_stopped(stream: Any) -> None:
    uninterrupted = iter(stream())
    expected = [next(uninterrupted).clips.tolist() for _ in range(60)]
    for stop in (1, 8, 23, 40):
        first = stream()
        for _, _batch in zip(range(stop), first, strict=False):
            pass
        second = stream()
        second.load_state_dict(first.state_dict())
        continued = iter(second)
        assert [next(continued).clips.tolist() for _ in range(60 - stop)] == expected[stop:]
