"""Manifests: labels as columns, fingerprints, and memory use."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossicle.core.errors import CorpusError
from ossicle.core.manifest import Labels, Manifest

LABELS = st.lists(st.lists(st.integers(0, 6), max_size=4, unique=True).map(tuple), max_size=30)


def manifest(labels: list[tuple[int, ...]], /, **changes: object) -> Manifest:
    clips = len(labels)
    plain = Manifest(
        root=Path("x"),
        paths=np.array([f"a/{clip}.wav" for clip in range(clips)]),
        frames=np.arange(clips) + 1,
        sample_rates=np.full(clips, 16000, np.int32),
        splits=np.array(["train"] * clips),
        labels=labels,
        label_names=tuple("abcdefg"),
        multi_label=True,
    )
    return replace(plain, **changes)


@given(LABELS, st.randoms())
def test_columns_of_labels_equal_the_labels_of_clips(clips: list[tuple[int, ...]], random: object) -> None:
    labels = Labels.of(clips)
    assert labels == clips
    assert [labels[clip] for clip in range(-len(clips), len(clips))] == clips + clips
    assert labels.counts.tolist() == [len(clip) for clip in clips]
    rows = np.array([random.randrange(len(clips)) for _ in clips], dtype=np.int64)
    assert labels.take(rows) == [clips[row] for row in rows]
    assert labels[2:7] == clips[2:7]
    truth = labels.truth(rows, 7)
    assert truth.tolist() == [[number in clips[row] for number in range(7)] for row in rows]
    with pytest.raises(IndexError):
        labels[len(clips)]


def test_a_fingerprint_never_changes() -> None:
    clips = manifest([(0,), (), (6, 2)], paths=np.array(["ä.wav", "b/%s.wav", "c" * 40]), folds=np.array([0, -1, 2]))
    assert clips.fingerprint() == "fcc96556634cbe833876f50b9714a5a15b8aa3e44b3ff9288be3ada1376318b8"


@pytest.mark.parametrize(
    "changes",
    [
        {"paths": np.array(["x", "a/1.wav"])},
        {"frames": np.array([1, 3])},
        {"sample_rates": np.array([16000, 8000], np.int32)},
        {"splits": np.array(["train", "test"])},
        {"labels": [(0,), (1, 2)]},
        {"folds": np.array([-1, 0], np.int32)},
        {"contents": np.array([0, 7], np.uint64)},
        {"label_names": tuple("abcdefh")},
        {"multi_label": False},
    ],
)
def test_every_column_enters_the_fingerprint(changes: dict[str, object]) -> None:
    assert manifest([(0,), (1,)], **changes).fingerprint() != manifest([(0,), (1,)]).fingerprint()


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(CorpusError, match=r"must have the same length, but have \[1, 2\]"):
        manifest([(0,), (1,)], labels=[(0,)])


def test_one_long_path_does_not_use_memory_for_the_others() -> None:
    def memory(longest: str) -> int:
        tracemalloc.start()
        clips = manifest([()] * 20_000, paths=[longest, *("short.wav" for _ in range(19_999))])
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert str(clips.paths[0]) == longest
        return size

    assert memory("long/" * 200) < memory("short.wav") + 100_000
