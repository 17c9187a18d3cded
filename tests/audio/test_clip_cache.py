"""The cache of spectrograms: the same batches with and without it, no stale clips, and no more than its limit."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile  # before fairseq2
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ossicle.audio.clip_cache as clip_cache_module
import ossicle.audio.pipeline as pipeline
from ossicle.audio.clip_cache import LIMIT_VARIABLE, Clip, ClipCache, clip_cache
from ossicle.audio.corpora.folder import FolderCorpus
from ossicle.audio.corpus_config import FolderConfig
from ossicle.audio.decode import decode
from ossicle.audio.front_end_config import KaldiFbankConfig
from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.audio.pipeline import clip_batches, training_pipeline
from ossicle.core.data import SpectrogramBatch
from ossicle.core.errors import OssicleError
from ossicle.core.interfaces import FrontEnd
from ossicle.core.manifest import Manifest

RATE, CLIPS, PLENTY = 16000, 12, 2**30
FRONT_END = KaldiFbank(KaldiFbankConfig(mel_bins=32))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Twelve clips of noise, 0.2 to 2 s."""
    rng = np.random.default_rng(0)
    for number in range(CLIPS):
        write(tmp_path / f"{number:02}.wav", rng.uniform(-0.5, 0.5, round(RATE * rng.uniform(0.2, 2.0))))
    return FolderCorpus(FolderConfig(path=tmp_path)).manifest()


def write(path: Path, samples: np.ndarray) -> None:
    soundfile.write(path, samples, RATE)


@pytest.fixture(autouse=True)
def old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every file as unchanged for long enough, so that no test has to wait."""
    monkeypatch.setattr(clip_cache_module, "_COARSEST_CLOCK_NS", 0)


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], ClipCache]:
    """Replace the cache of this process by one of the given size in bytes."""

    def keep(limit: int) -> ClipCache:
        store = ClipCache(limit)
        monkeypatch.setattr(pipeline, "clip_cache", lambda: store)
        return store

    return keep


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Counts how often each file has been decoded."""
    counts: Counter[str] = Counter()

    def counted(path: Path, *args: Any, **options: Any) -> Any:
        counts[path.name] += 1
        return decode(path, *args, **options)

    monkeypatch.setattr(pipeline, "decode", counted)
    return counts


def stream(manifest: Manifest, front_end: FrontEnd = FRONT_END, **options: Any) -> Any:
    given = {"batch_seconds": 3.0, "crop_seconds": 1.2, "seed": 1, **options}
    return training_pipeline(manifest, np.arange(len(manifest)), front_end, **given)


def one_pass(manifest: Manifest, front_end: FrontEnd = FRONT_END, crop_seconds: float = 10.0) -> list[SpectrogramBatch]:
    rows = np.arange(len(manifest))
    return list(clip_batches(manifest, rows, front_end, batch_seconds=4.0, crop_seconds=crop_seconds))


def same(one: SpectrogramBatch, two: SpectrogramBatch) -> bool:
    names = ("frames", "lengths", "samples", "clips")
    return all(torch.equal(getattr(one, name), getattr(two, name)) for name in names)


@pytest.mark.parametrize("crop_seconds", [0.1, 1.2, 10.0])
def test_batches_are_the_same_with_and_without_the_cache(
    manifest: Manifest, keep: Callable[[int], ClipCache], crop_seconds: float
) -> None:
    keep(0)
    expected = list(islice(stream(manifest, batch_seconds=3 * crop_seconds, crop_seconds=crop_seconds), 12))
    keep(PLENTY)
    for _ in range(2):
        found = list(islice(stream(manifest, batch_seconds=3 * crop_seconds, crop_seconds=crop_seconds), 12))
        assert all(map(same, found, expected))
        assert all(torch.equal(one.draws, two.draws) for one, two in zip(found, expected, strict=True))


def test_resumes_exactly_with_an_empty_cache(manifest: Manifest, keep: Callable[[int], ClipCache]) -> None:
    keep(PLENTY)
    expected = list(islice(stream(manifest), 12))
    first = stream(manifest)
    list(islice(first, 5))
    keep(PLENTY)
    second = stream(manifest)
    second.load_state_dict(first.state_dict())
    assert all(map(same, islice(second, 7), expected[5:]))


def test_a_whole_clip_is_decoded_once_for_all_stages(
    manifest: Manifest, keep: Callable[[int], ClipCache], decoded: Counter[str]
) -> None:
    keep(PLENTY)
    list(islice(stream(manifest, crop_seconds=10.0), 15))
    list(islice(stream(manifest, crop_seconds=5.0, seed=2), 15))
    one_pass(manifest)
    assert dict(decoded) == {str(path): 1 for path in manifest.paths}


def test_random_crops_are_not_cached(
    manifest: Manifest, keep: Callable[[int], ClipCache], decoded: Counter[str]
) -> None:
    store = keep(PLENTY)
    list(islice(stream(manifest, batch_seconds=0.3, crop_seconds=0.1), 12))
    assert store.size == 0
    assert min(decoded.values()) > 1


def test_first_stretches_are_cached_separately_from_whole_clips(
    manifest: Manifest, keep: Callable[[int], ClipCache], decoded: Counter[str]
) -> None:
    keep(PLENTY)
    whole = one_pass(manifest)
    starts = [one_pass(manifest, crop_seconds=0.1) for _ in range(2)]
    assert set(decoded.values()) == {2}
    assert all(map(same, *starts))
    assert max(batch.frames.shape[1] for batch in starts[1]) < min(batch.frames.shape[1] for batch in whole)


def test_writing_into_a_batch_does_not_change_the_cache(manifest: Manifest, keep: Callable[[int], ClipCache]) -> None:
    keep(PLENTY)
    one_by_one = {"batch_seconds": 0.01, "crop_seconds": 10.0}
    expected = [batch.frames.clone() for batch in islice(stream(manifest, **one_by_one), CLIPS)]
    for batch in islice(stream(manifest, **one_by_one), CLIPS):
        batch.frames.fill_(float("nan"))
    assert all(map(torch.equal, [batch.frames for batch in islice(stream(manifest, **one_by_one), CLIPS)], expected))


def test_settings_are_part_of_the_key_but_statistics_are_not(
    manifest: Manifest, keep: Callable[[int], ClipCache], decoded: Counter[str]
) -> None:
    keep(PLENTY)
    fitted = KaldiFbank(KaldiFbankConfig(mel_bins=32, patch_frames=8))
    fitted.set_statistics(torch.zeros(32), torch.ones(32))
    finer = KaldiFbank(KaldiFbankConfig(mel_bins=64))

    assert all(map(same, one_pass(manifest), one_pass(manifest, fitted)))
    assert set(decoded.values()) == {1}
    assert {batch.frames.shape[2] for batch in one_pass(manifest, finer)} == {64}


class Dithered(KaldiFbank):
    """Shifts frames by a random level, so that a clip never gives the same frames."""

    noise = np.random.default_rng(0)

    @property
    def transform(self) -> Callable[[Tensor], Tensor]:
        plain = super().transform

        return lambda waveform: plain(waveform) + self.noise.standard_normal()


class Coarse(KaldiFbank):
    """Rounds frames to a step, which is part of its key."""

    step = 1.0

    @property
    def transform(self) -> Callable[[Tensor], Tensor]:
        plain, step = super().transform, self.step
        return lambda waveform: torch.round(plain(waveform) / step) * step

    @property
    def frames_key(self) -> Hashable | None:
        return self.config.mel_bins, self.step


def test_frames_of_a_custom_front_end_are_cached_only_with_its_key(
    manifest: Manifest, keep: Callable[[int], ClipCache], decoded: Counter[str]
) -> None:
    store = keep(PLENTY)
    config = KaldiFbankConfig(mel_bins=32)
    dithered = Dithered(config)
    assert not any(map(same, one_pass(manifest, dithered), one_pass(manifest, dithered)))
    assert store.size == 0

    decoded.clear()
    coarse = Coarse(config)
    first = one_pass(manifest, coarse)
    assert all(map(same, first, one_pass(manifest, coarse)))
    assert set(decoded.values()) == {1}
    assert not any(map(same, first, one_pass(manifest)))
    begun = stream(manifest, coarse, crop_seconds=10.0)
    coarse.step = 0.25
    list(islice(begun, 12))
    assert not any(map(same, first, one_pass(manifest, coarse)))


def test_a_changed_file_is_read_again(tmp_path: Path, keep: Callable[[int], ClipCache]) -> None:
    """The file has the same name, the same length and the same time of modification."""
    keep(PLENTY)
    rng = np.random.default_rng(0)
    path = tmp_path / "a.wav"
    write(path, rng.uniform(-0.5, 0.5, RATE))
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    (before,) = one_pass(manifest)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns

    time.sleep(0.02)  # a tick of the file system's clock
    write(path, rng.uniform(-0.5, 0.5, RATE))
    os.utime(path, ns=times)
    (rewritten,) = one_pass(manifest)

    assert path.stat().st_mtime_ns == times[1]
    assert not same(before, rewritten)
    expected = FRONT_END.spectrogram(torch.from_numpy(decode(path, RATE)))
    assert torch.equal(rewritten.frames[0], expected)


def test_a_file_that_was_just_changed_is_not_cached(
    manifest: Manifest, keep: Callable[[int], ClipCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next change could be in the same tick of the file system's clock."""
    store = keep(PLENTY)
    monkeypatch.setattr(clip_cache_module, "_COARSEST_CLOCK_NS", 3600 * 10**9)
    one_pass(manifest)
    assert store.size == 0


def test_a_cached_clip_whose_file_vanishes_is_reported_and_left_out(
    manifest: Manifest, keep: Callable[[int], ClipCache], caplog: pytest.LogCaptureFixture
) -> None:
    keep(PLENTY)
    one_pass(manifest)
    manifest.path(3).unlink()
    with caplog.at_level(logging.WARNING, "ossicle"):
        rows = [row for batch in one_pass(manifest) for row in batch.clips.tolist()]
        again = islice(stream(manifest, batch_seconds=0.01, crop_seconds=10.0), 3 * CLIPS)
        rows += [int(batch.clips) for batch in again]
    assert set(rows) == set(range(CLIPS)) - {3}
    assert ["03.wav` does not exist" in record.getMessage() for record in caplog.records] == [True, True]


def test_the_limit_is_respected_and_the_cache_is_filled(
    manifest: Manifest, keep: Callable[[int], ClipCache], decoded: Counter[str]
) -> None:
    whole = keep(PLENTY)
    expected = one_pass(manifest)
    half = keep(whole.size // 2)
    decoded.clear()
    passes = [one_pass(manifest) for _ in range(3)]
    assert half.limit - 32 * 4 * 200 < half.size <= half.limit
    assert all(all(map(same, found, expected)) for found in passes)
    assert sum(decoded.values()) < 3 * CLIPS


def clip(frames: int) -> Clip:
    return Clip(torch.zeros(frames, 1), frames)


@given(
    limit=st.integers(0, 40),
    uses=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(1, 12)), max_size=60),
)
def test_no_order_of_use_exceeds_the_limit(limit: int, uses: list[tuple[int, int, int]]) -> None:
    store = ClipCache(4 * limit)
    streams = [store.begin() for _ in range(3)]
    put: dict[int, Clip] = {}
    for stream_number, key, frames in uses:
        found = store.get(key, streams[stream_number])
        assert found is None or found is put[key]
        if found is None:
            put[key] = clip(frames)
            store.put(key, put[key], streams[stream_number])
        cached = [one for number in range(7) if (one := store.get(number, streams[stream_number])) is not None]
        assert store.size == 4 * sum(one.samples for one in cached) <= 4 * limit


def test_a_new_stream_replaces_clips_of_older_streams_but_not_its_own() -> None:
    store = ClipCache(4 * 4)
    training, later = store.begin(), store.begin()
    for number in range(6):
        store.put(("train", number), clip(1), training)
    assert [store.get(("train", number), training) is not None for number in range(6)] == [True] * 4 + [False] * 2
    for number in range(2):
        store.put(("later", number), clip(1), later)
    store.put(("train", 5), clip(1), training)
    assert [store.get(("train", number), training) is not None for number in range(6)] == [False] * 2 + [True] * 2 + [
        False
    ] * 2
    assert all(store.get(("later", number), later) is not None for number in range(2))


def test_threads_share_a_cache() -> None:
    store = ClipCache(4 * 50)

    def use(seed: int) -> None:
        rng, stream_number = np.random.default_rng(seed), store.begin()
        for key in rng.integers(0, 30, 2000).tolist():
            found = store.get(key, stream_number)
            if found is None:
                store.put(key, clip(key + 1), stream_number)
            elif found.samples != key + 1:
                wrong.append(key)

    wrong: list[int] = []
    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = store.begin()
    assert not wrong
    assert store.size == 4 * sum(one.samples for key in range(30) if (one := store.get(key, last))) <= store.limit


def test_only_the_frames_of_a_clip_are_cached(manifest: Manifest, keep: Callable[[int], ClipCache]) -> None:
    """A view of a larger tensor would keep all of its memory, and a checkpoint would store it."""
    store = keep(PLENTY)
    batches = one_pass(manifest)
    assert store.size == sum(int(batch.lengths.sum()) for batch in batches) * 32 * 4


@pytest.mark.parametrize(
    ("stated", "processes", "most"),
    [("0", "1", 0), ("7", "1", 7 * 2**20), ("7", "2", 7 * 2**20), ("", "1", 2**30), ("", "4", 2**28)],
)
def test_the_environment_sets_the_limit(
    monkeypatch: pytest.MonkeyPatch, stated: str, processes: str, most: int
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, stated)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    limit = clip_cache.__wrapped__().limit
    assert limit == most if stated else most // 64 < limit <= most


@pytest.mark.parametrize("stated", ["much", "-1", "1.5", "1GiB"])
def test_a_limit_that_is_not_a_number_is_refused(monkeypatch: pytest.MonkeyPatch, stated: str) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, stated)
    with pytest.raises(OssicleError, match=f"OSSICLE_CLIP_CACHE_MIB is `{stated}`, but must be a whole number of MiB"):
        clip_cache.__wrapped__()
