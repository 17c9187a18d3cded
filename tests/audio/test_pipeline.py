"""The data pipeline: every clip once per epoch, full batches with little padding, and exact resuming."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile  # before fairseq2
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from ossicle.audio.corpora.folder import FolderCorpus
from ossicle.audio.corpus_config import FolderConfig
from ossicle.audio.front_end_config import KaldiFbankConfig
from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.audio.pipeline import PADDING, _buckets, _edges, clip_batches, training_pipeline
from ossicle.core.data import SpectrogramBatch
from ossicle.core.errors import CorpusError
from ossicle.core.manifest import Manifest

RATE, CLIPS = 16000, 60
FRONT_END = KaldiFbank(KaldiFbankConfig(mel_bins=32))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty clips of noise, 0.2 to 2.5 s."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for number in range(CLIPS):
        noise = rng.uniform(-0.5, 0.5, round(RATE * rng.uniform(0.2, 2.5)))
        soundfile.write(folder / f"{number:02}.wav", noise, RATE)
    return folder


@pytest.fixture(scope="module")
def manifest(root: Path) -> Manifest:
    return FolderCorpus(FolderConfig(path=root)).manifest()


def stream(manifest: Manifest, **options: Any) -> Any:
    given = {"batch_seconds": 6.0, "crop_seconds": 10.0, "seed": 1, **options}
    return training_pipeline(manifest, np.arange(len(manifest)), FRONT_END, **given)


def take(pipeline: Any, clips: int) -> list[SpectrogramBatch]:
    """Take batches until they have at least `clips` clips."""
    batches: list[SpectrogramBatch] = []
    for batch in pipeline:
        batches.append(batch)
        if sum(len(one.lengths) for one in batches) >= clips:
            break
    return batches


def same(one: SpectrogramBatch, two: SpectrogramBatch) -> bool:
    names = ("frames", "lengths", "samples", "clips")
    return all(torch.equal(getattr(one, name), getattr(two, name)) for name in names)


def rows_of(batches: list[SpectrogramBatch]) -> list[int]:
    return [row for batch in batches for row in batch.clips.tolist()]


def test_every_clip_occurs_once_per_epoch(manifest: Manifest) -> None:
    # With one clip per batch, no clip waits in a bucket, so the batches have the order of the stream.
    rows = rows_of(take(stream(manifest, batch_seconds=0.01), 3 * CLIPS))

    epochs = [rows[start : start + CLIPS] for start in range(0, 3 * CLIPS, CLIPS)]

    assert all(sorted(epoch) == list(range(CLIPS)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_bucketing_does_not_favour_any_clip(manifest: Manifest) -> None:
    counts = np.bincount(rows_of(take(stream(manifest), 20 * CLIPS)), minlength=CLIPS)
    assert counts.min() >= 17
    assert counts.max() <= 21


def test_the_seed_determines_the_stream(manifest: Manifest) -> None:
    first, same_seed = take(stream(manifest), 100), take(stream(manifest), 100)
    assert all(map(same, first, same_seed))
    assert rows_of(first) != rows_of(take(stream(manifest, seed=2), 100))


def test_resumes_exactly_in_the_middle_of_an_epoch(manifest: Manifest) -> None:
    whole = take(stream(manifest, crop_seconds=1.0), 150)
    first = stream(manifest, crop_seconds=1.0)
    cut = 7
    for number, batch in enumerate(first, start=1):
        if number == cut:
            break
        del batch
    state = first.state_dict()

    second = stream(manifest, crop_seconds=1.0)
    second.load_state_dict(state)
    rest = [batch for batch, _ in zip(second, whole[cut:], strict=False)]

    assert len(rest) > 7
    assert all(map(same, rest, whole[cut:]))


@pytest.mark.slow
def test_resumes_exactly_after_any_batch(manifest: Manifest) -> None:
    """fairseq2's `shuffle` with `repeat`, and its parallel `map`, lost clips at some stops and not at others."""
    options = {"batch_seconds": 3.0, "crop_seconds": 1.0}
    uninterrupted = iter(stream(manifest, **options))
    expected = [next(uninterrupted) for _ in range(45)]
    for stop in range(1, 31):
        first = stream(manifest, **options)
        for _, _batch in zip(range(stop), first, strict=False):
            pass
        second = stream(manifest, **options)
        second.load_state_dict(first.state_dict())
        continued = iter(second)
        assert all(same(next(continued), batch) for batch in expected[stop : stop + 15]), stop


def test_batches_do_not_exceed_their_size_and_have_little_padding(manifest: Manifest) -> None:
    batches = take(stream(manifest), 20 * CLIPS)

    padded = np.array([batch.frames.shape[0] * batch.frames.shape[1] for batch in batches])
    real = np.array([int(batch.lengths.sum()) for batch in batches])

    assert padded.max() <= 6.0 / FRONT_END.hop_seconds
    assert padded.mean() > 0.6 * 6.0 / FRONT_END.hop_seconds
    assert 1 - real.sum() / padded.sum() < 0.1


@pytest.mark.slow
def test_crops_differ_between_epochs_and_are_the_same_in_every_run(manifest: Manifest) -> None:
    longest = int(np.argmax(manifest.seconds))

    def crops() -> list[torch.Tensor]:
        batches = take(stream(manifest, batch_seconds=0.01, crop_seconds=0.5), 4 * CLIPS)
        return [batch.frames[0] for batch in batches if batch.clips.item() == longest]

    first, second = crops(), crops()

    assert len(first) == 4
    assert all(map(torch.equal, first, second))
    assert all(not torch.equal(first[0], other) for other in first[1:])
    assert {len(frames) for frames in first} == {len(FRONT_END.spectrogram(torch.zeros(RATE // 2)))}


def test_a_crop_is_a_stretch_of_its_clip(tmp_path: Path) -> None:
    ramp = np.linspace(0.01, 0.9, 4 * RATE)  # the level determines the position
    soundfile.write(tmp_path / "ramp.wav", ramp * np.sin(np.arange(4 * RATE)), RATE)
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()

    batches = take(stream(manifest, crop_seconds=0.5, batch_seconds=0.01), 40)
    levels = [batch.frames.mean().item() for batch in batches]

    def level(start: int) -> float:
        return FRONT_END.spectrogram(torch.from_numpy(clip[start : start + RATE // 2])).mean().item()

    clip, _ = soundfile.read(tmp_path / "ramp.wav", dtype="float32")
    assert level(0) <= min(levels) < level(RATE)
    assert level(5 * RATE // 2) < max(levels) <= level(7 * RATE // 2)


def test_ranks_divide_an_epoch_between_them(manifest: Manifest) -> None:
    both = [rows_of(take(stream(manifest, batch_seconds=0.01, rank=rank, world_size=2), CLIPS // 2)) for rank in (0, 1)]
    assert sorted(both[0] + both[1]) == list(range(CLIPS))


def test_a_missing_file_is_left_out_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, RATE), RATE)
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    (tmp_path / "b.wav").unlink()

    with caplog.at_level(logging.WARNING, "ossicle"):
        rows = rows_of(take(stream(manifest, batch_seconds=0.01), 10))

    assert set(rows) == {0, 2}
    (record,) = caplog.records
    assert "left out: " in record.getMessage()
    assert "b.wav` does not exist" in record.getMessage()


def test_a_stream_without_a_readable_file_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    (tmp_path / "a.wav").unlink()
    with pytest.raises(CorpusError, match="none of the clips to train on can be read any more"):
        take(stream(manifest), 1)


def test_a_file_that_grew_keeps_its_bucket(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(RATE, 0.1), RATE)
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    soundfile.write(tmp_path / "a.wav", np.full(3 * RATE, 0.1), RATE)
    (batch,) = take(stream(manifest, batch_seconds=0.01), 1)
    assert batch.samples.tolist() == [RATE]


def test_an_empty_list_of_rows_is_refused(manifest: Manifest) -> None:
    with pytest.raises(CorpusError, match="no clip to train on"):
        training_pipeline(manifest, np.arange(0), FRONT_END, batch_seconds=1.0, crop_seconds=1.0, seed=0)


def test_one_pass_gives_each_row_once(manifest: Manifest) -> None:
    rows = np.arange(CLIPS)[::-3].copy()
    seen = {}
    for batch in clip_batches(manifest, rows, FRONT_END, batch_seconds=5.0, crop_seconds=1.5):
        for place, row in enumerate(batch.clips.tolist()):
            assert row not in seen
            seen[row] = batch.frames[place, : batch.lengths[place]]

    assert sorted(seen) == sorted(rows.tolist())
    for row, frames in seen.items():
        waveform, _ = soundfile.read(manifest.path(row), dtype="float32")
        assert torch.equal(frames, FRONT_END.spectrogram(torch.from_numpy(waveform[: 3 * RATE // 2])))


def test_clips_shorter_than_a_frame_are_used(tmp_path: Path) -> None:
    for number, samples in enumerate((1, 399, 400, 3000)):
        soundfile.write(tmp_path / f"{number}.wav", np.full(samples, 0.1), RATE)
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    batches = list(clip_batches(manifest, np.arange(4), FRONT_END, batch_seconds=60.0, crop_seconds=1.0))
    assert [samples for batch in batches for samples in batch.samples.tolist()] == [1, 399, 400, 3000]
    assert [frames for batch in batches for frames in batch.lengths.tolist()] == [1, 1, 1, 17]
    assert all(FRONT_END.patches(batch).patches.isfinite().all() for batch in batches)


def of_lengths(seconds: np.ndarray) -> Manifest:
    """Make a manifest of clips that do not exist."""
    clips = len(seconds)
    return Manifest(
        root=Path(),
        paths=np.array([f"{clip}.wav" for clip in range(clips)]),
        frames=(seconds * RATE).astype(np.int64),
        sample_rates=np.full(clips, RATE, np.int32),
        splits=np.full(clips, "train"),
        labels=[()] * clips,
    )


def padded_share(batches: Iterable[SpectrogramBatch]) -> float:
    """Compute the share of patches that are padding."""
    valid = [FRONT_END.patches(batch).valid for batch in batches]
    return 1 - sum(int(mask.sum()) for mask in valid) / sum(mask.numel() for mask in valid)


def silence(path: Path, rate: int, *, start_seconds: float, seconds: float) -> np.ndarray:
    return np.zeros(round(rate * seconds), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("batch_seconds", [32.0, 128.0])
@pytest.mark.parametrize("mix", ["log-normal", "mostly whole", "uniform"])
def test_less_than_five_per_cent_of_patches_are_padding(
    monkeypatch: pytest.MonkeyPatch, mix: str, batch_seconds: float
) -> None:
    rng = np.random.default_rng(0)
    seconds = {
        "log-normal": rng.lognormal(np.log(3), 0.7, 4000).clip(1, 10),
        "mostly whole": np.where(rng.random(4000) < 0.9, 10.0, rng.uniform(0.5, 10, 4000)),
        "uniform": rng.uniform(0.3, 30, 2000),
    }[mix]
    monkeypatch.setattr("ossicle.audio.pipeline.decode", silence)
    manifest, options = of_lengths(seconds), {"batch_seconds": batch_seconds, "crop_seconds": 10.0}
    rows = np.arange(len(manifest))
    some = int(1000 / batch_seconds)
    trained = list(islice(training_pipeline(manifest, rows, FRONT_END, seed=0, **options), some))
    assert padded_share(trained) < 0.05
    assert padded_share(clip_batches(manifest, rng.choice(rows, 500, replace=False), FRONT_END, **options)) < 0.05
    padded = [batch.frames.shape[0] * batch.frames.shape[1] * FRONT_END.hop_seconds for batch in trained]
    assert max(padded) <= batch_seconds
    assert np.mean(padded) > 0.85 * batch_seconds


@given(
    st.lists(st.floats(0.05, 40.0), min_size=1, max_size=60),
    st.floats(0.5, 200.0),
)
@example([1.0, 38.0, 37.984375], 1.0)
@example([0.05] * 30 + [0.065] * 30, 0.5)
def test_every_clip_fits_a_bucket_and_every_bucket_is_filled_in_one_pass(lengths: list[float], budget: float) -> None:
    seconds = np.array(lengths)
    buckets = _buckets(seconds, budget, 0.01)
    edges = [edge for _, edge in buckets]
    assert edges == sorted(set(edges))
    assert np.ceil(seconds.max() / 0.01) == edges[-1]
    # The resampler may add a frame.
    assert all(clips == 1 or clips * (edge + 1) * 0.01 <= budget + 1e-6 for clips, edge in buckets)
    if len(buckets) > 1:
        inside = np.histogram(np.ceil(seconds / 0.01), [0, *np.array(edges) + 0.5])[0]
        assert all(count >= clips for count, (clips, _) in zip(inside, buckets, strict=True))


def test_edges_pad_at_most_as_much_as_the_best_pair() -> None:
    seconds = np.sort(np.random.default_rng(0).lognormal(1.0, 0.7, 40))

    def padding(edges: np.ndarray) -> float:
        return float(edges[np.searchsorted(edges, seconds)].sum())

    pairs = [np.array([edge, seconds[-1]]) for edge in seconds[:-1]]
    found = _edges(seconds, 0.0)
    assert padding(found) <= min(map(padding, pairs))
    assert 1 - seconds.sum() / padding(found) <= PADDING


def test_the_state_of_a_stream_is_small(manifest: Manifest) -> None:
    pipeline = stream(manifest, batch_seconds=20.0)
    take(pipeline, 3)
    state = io.BytesIO()
    torch.save(pipeline.state_dict(), state)
    # Two batches of 20 s with 32 bins per frame are prefetched. Everything else is numbers.
    assert state.tell() < 3 * 20 * 100 * 32 * 4


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_formats_rates_and_channels_give_the_same_spectrum(tmp_path: Path, suffix: str, rate: int) -> None:
    def write(folder: str, suffix: str, rate: int, channels: int) -> Manifest:
        (tmp_path / folder).mkdir()
        time = np.arange(rate) / rate
        tone = sum(0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (300, 700, 1500, 2500))
        soundfile.write(tmp_path / folder / f"a.{suffix}", np.stack([tone] * channels, axis=1), rate)
        return FolderCorpus(FolderConfig(path=tmp_path / folder)).manifest()

    def spectrum(manifest: Manifest) -> torch.Tensor:
        (batch,) = take(stream(manifest, batch_seconds=0.01), 1)
        return batch.frames[0, 10:80].softmax(-1).mean(0)  # distribution of energy over the spectrum

    plain = spectrum(write("plain", "wav", RATE, 1))
    found = spectrum(write("other", suffix, rate, 2))

    torch.testing.assert_close(found, plain, atol=0.03, rtol=0)


def test_batches_have_labels(tmp_path: Path) -> None:
    for name in ("cat/a", "dog/b", "cat/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", np.full(RATE, 0.1), RATE)
    manifest = FolderCorpus(FolderConfig(path=tmp_path, labels="folders")).manifest()
    (batch,) = clip_batches(manifest, np.arange(3), FRONT_END, batch_seconds=60.0, crop_seconds=1.0)
    names = [manifest.label_names[label] for label in batch.labels.tolist()]
    assert names == [str(manifest.paths[row]).split("/")[0] for row in batch.clips.tolist()]
