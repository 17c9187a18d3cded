"""The loop from clips to patches gives the same result as its steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile  # before fairseq2
import torch

from ossicle.audio.corpora.folder import FolderCorpus
from ossicle.audio.corpus_config import FolderConfig
from ossicle.audio.front_end_config import KaldiFbankConfig
from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.audio.patch_batches import pad_waveforms, patch_batches, patches_of, waveform_patches
from ossicle.audio.pipeline import clip_batches
from ossicle.core.data import Grid, PatchBatch, SpectrogramBatch
from ossicle.core.errors import PluginError
from ossicle.core.manifest import Manifest

RATE = 16000
SECONDS = (0.3, 2.0, 0.5, 1.39, 0.7, 1.9, 1.8, 1.0, 1.7, 1.2)
"""Clips above 1.5 s are cropped and share a batch with the clip of 1.39 s, which is one time column shorter."""
CLIPS = len(SECONDS)
CPU = torch.device("cpu")
FRONT_END = KaldiFbank(KaldiFbankConfig(mel_bins=32))
OPTIONS = {"batch_seconds": 8.0, "crop_seconds": 1.5}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Clips of noise, in two classes."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for number, seconds in enumerate(SECONDS):
        path = folder / "ab"[number % 2] / f"{number:02}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, round(RATE * seconds)), RATE)
    return FolderCorpus(FolderConfig(path=folder, labels="folders")).manifest()


def waveform(manifest: Manifest, row: int) -> np.ndarray:
    samples, _ = soundfile.read(manifest.path(row), dtype="float32")
    return samples[: round(OPTIONS["crop_seconds"] * RATE)]


def patches_of_single(wave: np.ndarray) -> torch.Tensor:
    """Compute the patches of a single clip."""
    return FRONT_END(pad_waveforms([wave])).patches[0]


def test_equals_a_handwritten_loop(manifest: Manifest) -> None:
    rows = np.arange(CLIPS)[::-2].copy()
    expected = []
    for batch in clip_batches(manifest, rows, FRONT_END, **OPTIONS):
        batch.to(CPU)
        expected.append(FRONT_END.patches(batch))

    found = list(patch_batches(manifest, rows, FRONT_END, **OPTIONS, device=CPU))

    assert len(found) == len(expected) > 1
    for one, two in zip(found, expected, strict=True):
        for name in ("patches", "valid", "clips", "labels"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
        assert (one.grid, one.seconds, one.front_end, one.draws) == (two.grid, two.seconds, two.front_end, None)
        assert one.spectrogram is None


def test_gives_each_clip_once_shortest_first_with_the_patches_of_a_single_clip(manifest: Manifest) -> None:
    rows = np.arange(CLIPS)[::-1].copy()
    order, padded = [], 0
    for batch in patch_batches(manifest, rows, FRONT_END, **OPTIONS):
        order += batch.rows
        padded += int((~batch.valid).sum())
        for row, patches, valid in zip(batch.rows, batch.patches, batch.valid, strict=True):
            assert torch.equal(patches[valid], patches_of_single(waveform(manifest, row)))
    lengths = [len(waveform(manifest, row)) for row in order]
    assert sorted(order) == sorted(rows.tolist())
    assert lengths == sorted(lengths)
    assert padded, "no batch has padding, so this test does not check it"


def test_keeps_the_spectrogram_on_request(manifest: Manifest) -> None:
    for batch in patch_batches(manifest, np.arange(CLIPS), FRONT_END, **OPTIONS, keep_spectrogram=True):
        assert isinstance(batch.spectrogram, SpectrogramBatch)
        assert torch.equal(FRONT_END.patches(batch.spectrogram).patches, batch.patches)
        assert batch.spectrogram.clips.tolist() == batch.rows


def test_batches_and_front_end_are_on_the_device(manifest: Manifest) -> None:
    class FramesAsPatches(KaldiFbank):
        """Does not read values, so it works on the `meta` device."""

        def patches(self, batch: SpectrogramBatch) -> PatchBatch:
            frames = batch.frames - self.mean
            return PatchBatch(frames, torch.ones_like(frames[..., 0]).bool(), Grid(frames.shape[1], 1))

    front_end, meta = FramesAsPatches(KaldiFbankConfig(mel_bins=32)), torch.device("meta")
    options = {**OPTIONS, "device": meta, "keep_spectrogram": True}
    (batch,) = patch_batches(manifest, np.arange(1), front_end, **options)
    assert front_end.mean.device == batch.patches.device == batch.spectrogram.frames.device == meta


def test_gives_each_waveform_once_shortest_first_with_the_patches_of_a_single_clip(
    manifest: Manifest,
) -> None:
    waves = [waveform(manifest, row) for row in range(CLIPS)]
    batches = list(waveform_patches(waves, FRONT_END, batch_seconds=8.0))
    order = [row for batch in batches for row in batch.rows]
    assert sorted(order) == list(range(CLIPS))
    assert [len(waves[row]) for row in order] == sorted(map(len, waves))
    assert len(batches) > 1
    for batch in batches:
        for row, patches, valid in zip(batch.rows, batch.patches, batch.valid, strict=True):
            assert torch.equal(patches[valid], patches_of_single(waves[row]))


def test_no_clips_give_no_batches(manifest: Manifest) -> None:
    assert not list(patch_batches(manifest, np.arange(0), FRONT_END, **OPTIONS))
    assert not list(waveform_patches([], FRONT_END, batch_seconds=8.0))


def test_a_front_end_that_drops_the_numbers_of_the_clips_is_reported(manifest: Manifest) -> None:
    class Forgetful(KaldiFbank):
        def patches(self, batch: SpectrogramBatch) -> PatchBatch:
            return replace(super().patches(batch), clips=None)

    front_end = Forgetful(KaldiFbankConfig(mel_bins=32))
    (batch,) = patches_of(clip_batches(manifest, np.arange(1), FRONT_END, **OPTIONS), front_end)
    with pytest.raises(PluginError, match=r"let `FrontEnd\.patches` copy them"):
        _ = batch.rows
