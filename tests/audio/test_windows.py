"""Windows over recordings of any length: which columns they keep, and that these equal the whole recording's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.audio.front_end_config import KaldiFbankConfig
from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.audio.windows import ColumnGrid, Window, windows
from ossicle.core.data import AudioBatch
from ossicle.core.errors import OssicleError

FRONT_END = KaldiFbank(KaldiFbankConfig(mel_bins=32))
RATE = FRONT_END.sample_rate


def noise(samples: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, samples).astype(np.float32)


def cut(
    wave: np.ndarray[tuple[int], np.dtype[np.float32]], window: float, overlap: float, stretch: int
) -> list[Window]:
    stretches = [wave[start : start + stretch] for start in range(0, len(wave), stretch)]
    return list(windows(stretches, FRONT_END, window_seconds=window, overlap_seconds=overlap))


def patches(wave: np.ndarray[tuple[int], np.dtype[np.float32]]) -> torch.Tensor:
    batch = AudioBatch(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
    return FRONT_END(batch).patches[0].unflatten(0, (-1, FRONT_END.bands))


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(0, 12 * RATE),
    window=st.sampled_from([0.8, 1.3, 2.0, 5.0]),
    overlap=st.sampled_from([0.0, 0.16, 0.3]),
    stretch=st.sampled_from([997, RATE, 10 * RATE]),
)
def test_windows_keep_each_column_once_and_equal_to_the_whole_recording(
    samples: int, window: float, overlap: float, stretch: int
) -> None:
    wave = noise(samples)
    found = cut(wave, window, overlap, stretch)
    kept = [patches(piece.waveform)[piece.kept] for piece in found]
    assert torch.equal(torch.cat(kept), patches(wave))
    numbers = [n for piece in found for n in range(piece.first + piece.kept.start, piece.first + piece.kept.stop)]
    assert numbers == list(range(len(patches(wave))))


def test_columns_have_context_on_both_sides_except_at_the_ends() -> None:
    first, *inner, last = cut(noise(60 * RATE), 10.0, 2.0, RATE)
    half = 7  # 2 s are 12.5 columns, hence 14
    size = 62
    assert (first.kept.start, first.kept.stop) == (0, size - half)
    assert {(piece.kept.start, piece.kept.stop) for piece in inner} == {(half, size - half)}
    assert last.kept.start >= half
    assert last.kept.stop == size


def test_a_short_recording_or_an_infinite_window_gives_one_window() -> None:
    wave = noise(10 * RATE)
    (only,) = cut(wave, 10.0, 2.0, RATE)
    assert np.array_equal(only.waveform, wave)
    (only,) = cut(wave, math.inf, 2.0, RATE)
    assert np.array_equal(only.waveform, wave)


def test_only_a_few_windows_are_in_memory() -> None:
    read = 0

    def stretches():
        nonlocal read
        for _ in range(600):
            read += RATE
            yield np.zeros(RATE, np.float32)

    for window in windows(stretches(), FRONT_END, window_seconds=10.0, overlap_seconds=2.0):
        start = ColumnGrid(FRONT_END).start(window.first)
        assert read - start <= 12 * RATE


@pytest.mark.parametrize(
    ("window", "overlap", "message"),
    [
        (10.0, 10.0, "must be at least 0 and below `window_seconds`, but they are 10 and 10"),
        (10.0, -1.0, "but they are -1 and 10"),
        (0.0, 0.0, "but they are 0 and 0"),
        (math.nan, 0.0, "but they are 0 and nan"),
        (0.33, 0.3, "holds 2 time columns of 0.16 s, and `overlap_seconds` 0.3 takes 2 of them"),
        (0.1, 0.0, "holds 0 time columns"),
    ],
)
def test_impossible_windows_are_refused(window: float, overlap: float, message: str) -> None:
    with pytest.raises(OssicleError, match=message):
        cut(noise(RATE), window, overlap, RATE)
