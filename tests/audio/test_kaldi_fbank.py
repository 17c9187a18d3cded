"""The filter-bank front end: equality with torchaudio, any length, and no influence of padding."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn.utils.rnn import pad_sequence

from ossicle.audio.front_end_config import KaldiFbankConfig
from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.core.data import AudioBatch, Grid, SpectrogramBatch
from ossicle.core.errors import ConfigError, PluginError

GOLDEN = ["deepnorm", "deepnorm_b320", "basewidth", "glu", "postnorm_relonly", "prenorm", "finetuned", "tokenizer"]


def noise(*lengths: int, seed: int = 0) -> AudioBatch:
    generator = torch.Generator().manual_seed(seed)
    clips = [0.1 * torch.randn(length, generator=generator) for length in lengths]
    return AudioBatch(pad_sequence(clips, batch_first=True), torch.tensor(lengths))


def test_frames_equal_torchaudio():
    wave = noise(32000).waveform
    expected = torchaudio.compliance.kaldi.fbank(wave * 2**15, num_mel_bins=128, sample_frequency=16000.0)
    frames = KaldiFbank(KaldiFbankConfig()).spectrogram(wave[0])
    torch.testing.assert_close(frames, expected, atol=1e-3, rtol=0)


def test_the_first_clip_of_every_converter_is_correct():
    wave = noise(32000).waveform[0]
    front_end = KaldiFbank(KaldiFbankConfig())
    expected = front_end.spectrogram(wave)
    assert all(torch.equal(front_end.spectrogram(wave), expected) for _ in range(300))


def test_a_view_of_a_longer_waveform_gives_the_frames_of_its_samples():
    wave = noise(32000).waveform[0].requires_grad_()
    front_end = KaldiFbank(KaldiFbankConfig())
    view = wave[8000:24000]
    frames = front_end.transform(view)
    assert torch.equal(frames, front_end.transform(view.detach().clone()))
    assert not torch.equal(frames, front_end.transform(wave[:16000].detach().clone()))


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("run", ["full", "padded"])
def test_patches_equal_the_released_code(golden: Path, name: str, run: str):
    arrays = np.load(golden / f"{name}.npz", allow_pickle=False)
    wave = torch.from_numpy(arrays[f"{run}/wave_i16"]).float() / 32768
    batch = AudioBatch(wave, torch.from_numpy(arrays[f"{run}/lengths"]))
    fbank = torch.from_numpy(arrays[f"{run}/fbank"])

    patches = KaldiFbank(KaldiFbankConfig(padding="released"))(batch)

    columns = fbank.shape[1] // 16
    assert patches.grid == Grid(columns, 8)
    expected = fbank[:, : columns * 16].unflatten(1, (columns, 16)).unflatten(3, (8, 16)).transpose(2, 3)
    error = (patches.patches - expected.flatten(3).flatten(1, 2)).abs()
    # One value of all these files, in a nearly empty bin, differs by 8e-4. A computation in float64 is closer to ours
    # (1e-4) than to the stored one (7e-4).
    assert (error > 5e-4).sum() <= 1
    assert error.max() < 1e-3
    if f"{run}/patch_mask" in arrays:
        torch.testing.assert_close(patches.valid, ~torch.from_numpy(arrays[f"{run}/patch_mask"]))


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 5000), min_size=1, max_size=3), padding=st.sampled_from(["exact", "released"]))
def test_all_lengths_work(lengths: list[int], padding: str):
    patches = KaldiFbank(KaldiFbankConfig(padding=padding))(noise(*lengths))
    assert patches.patches.shape == (len(lengths), patches.grid.patches, 256)
    assert patches.patches.isfinite().all()
    assert patches.valid.any(dim=1).all()


@settings(max_examples=30, deadline=None)
@given(length=st.integers(0, 9000), other=st.integers(0, 9000))
def test_a_single_clip_equals_the_clip_in_a_batch(length: int, other: int):
    front_end = KaldiFbank(KaldiFbankConfig())
    batch = noise(length, other)
    # Samples after the end of a clip must not matter.
    batch.waveform[0, length:] = 1.0
    single = front_end(AudioBatch(batch.waveform[:1, :length], batch.lengths[:1]))
    together = front_end(batch)
    count = single.grid.patches
    assert single.valid.all()
    assert torch.equal(together.patches[0, :count], single.patches[0])
    assert together.valid[0, :count].all()
    assert not together.valid[0, count:].any()


def test_frames_after_the_end_are_ignored():
    frames = torch.randn(1, 40, 128)
    spoilt = frames.clone()
    spoilt[:, 32:] = float("nan")
    front_end = KaldiFbank(KaldiFbankConfig())
    clean, other = (
        front_end.patches(SpectrogramBatch(f, torch.tensor([33]), torch.tensor([5520]))) for f in (frames, spoilt)
    )
    assert torch.equal(clean.patches, other.patches)
    assert clean.valid.all()
    assert clean.seconds == pytest.approx(0.345)


def test_a_short_clip_fills_one_column_with_zeros():
    batch = noise(1000)  # 4 frames
    front_end = KaldiFbank(KaldiFbankConfig())
    patches = front_end(batch)
    assert patches.grid == Grid(1, 8)
    assert patches.valid.all()
    cells = patches.patches.unflatten(2, (16, 16))  # (1, bands, frames, bins)
    assert (cells[:, :, 4:] == 0).all()
    frames = front_end.spectrogram(batch.waveform[0])
    expected = (frames - 15.41663) / (2 * 6.55582)
    torch.testing.assert_close(cells[0, :, :4].transpose(0, 1).flatten(1), expected)


def test_scalar_statistics_pool_all_bins():
    frames = torch.randn(5000, 128, dtype=torch.float64) * torch.linspace(1, 3, 128) + torch.linspace(-9, 9, 128)
    front_end = KaldiFbank(KaldiFbankConfig())
    front_end.set_statistics(frames.mean(0), frames.std(0, correction=0))
    assert float(front_end.mean) == pytest.approx(float(frames.mean()), abs=1e-5)
    assert float(front_end.std) == pytest.approx(float(frames.std(correction=0)), rel=1e-6)


def test_rounding_errors_of_an_empty_bin_are_not_amplified():
    front_end = KaldiFbank(KaldiFbankConfig(per_bin=True))
    mean, std = torch.randn(128), torch.rand(128) + 1
    mean[3], std[3] = -15.942385, 1e-7
    front_end.set_statistics(mean, std)
    assert front_end.mean.shape == (128,)
    assert front_end.std.min() > 0.5
    patches = front_end(noise(8000)).patches.unflatten(2, (16, 16))
    torch.testing.assert_close(patches[:, ::8, :, 3], torch.zeros(1, 3, 16), atol=1e-5, rtol=0)


def test_the_residue_above_the_band_limit_stays_quiet():
    """Recordings of 8 kHz have no signal in the upper quarter of the mel bins, where the deviation is far smaller."""
    front_end = KaldiFbank(KaldiFbankConfig(per_bin=True))
    std = torch.full((128,), 3.5)
    std[96:] = 0.6
    front_end.set_statistics(torch.zeros(128), std)
    torch.testing.assert_close(front_end.std[:96], std[:96])
    torch.testing.assert_close(front_end.std[96:], torch.full((32,), 1.75))


def test_configured_statistics_are_not_replaced():
    front_end = KaldiFbank(KaldiFbankConfig(mean=1.0, std=2.0))
    front_end.set_statistics(torch.zeros(128), torch.ones(128))
    assert (float(front_end.mean), float(front_end.std)) == (1.0, 2.0)


def test_statistics_of_another_shape_are_refused():
    with pytest.raises(PluginError, match=r"must have shape \(128,\), but have \(64,\) and \(64,\)"):
        KaldiFbank(KaldiFbankConfig()).set_statistics(torch.zeros(64), torch.ones(64))


def test_the_fingerprint_depends_on_the_statistics():
    stated = KaldiFbank(KaldiFbankConfig(mean=1.0, std=2.0))
    measured = KaldiFbank(KaldiFbankConfig(per_bin=True))
    before = measured.fingerprint()
    measured.set_statistics(torch.ones(128), torch.full((128,), 2.0))
    assert measured.fingerprint() == stated.fingerprint() != before

    fresh = KaldiFbank(KaldiFbankConfig(per_bin=True))
    assert fresh.fingerprint() == before
    fresh.load_state_dict(measured.state_dict())
    assert fresh.fingerprint() == copy.deepcopy(measured).fingerprint() == measured.fingerprint()
    assert KaldiFbank(KaldiFbankConfig(patch_bins=8)).fingerprint() != KaldiFbank(KaldiFbankConfig()).fingerprint()
    assert stated(noise(4000)).front_end == stated.fingerprint()


def test_released_masks_refuse_frames_without_waveforms():
    batch = SpectrogramBatch(torch.zeros(1, 16, 128), torch.tensor([16]), torch.tensor([2800]))
    with pytest.raises(ConfigError, match="set `padding: exact`"):
        KaldiFbank(KaldiFbankConfig(padding="released")).patches(batch)


def test_times_and_bands():
    front_end = KaldiFbank(KaldiFbankConfig())
    times, edges = front_end.column_times(2), front_end.band_edges()
    torch.testing.assert_close(times, torch.tensor([[0.0, 0.175], [0.16, 0.335]], dtype=torch.float64))
    assert edges.shape == (8, 2)
    assert edges[0, 0] == pytest.approx(20.0)
    assert edges[-1, 1] == pytest.approx(8000.0)
    assert (edges[1:, 0] < edges[:-1, 1]).all(), "the triangles of neighbouring bands overlap"


def test_a_band_contains_its_tones():
    edges = KaldiFbank(KaldiFbankConfig()).band_edges()
    front_end = KaldiFbank(KaldiFbankConfig())
    for band, (low, high) in enumerate(edges.tolist()):
        tone = torch.sin(torch.arange(4000) * (2 * torch.pi * (low + high) / 2 / 16000))
        patches = front_end(AudioBatch(tone[None], torch.tensor([4000])))
        assert int(patches.patches[0, :8].mean(-1).argmax()) == band


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_bins": 24}, "24 does not divide 128: set `patch_bins` to one of 1, 2, 4, 8, 16"),
        ({"patch_frames": 4, "padding": "released"}, "set `padding: exact`"),
        ({"std": 0.0}, "greater than 0"),
    ],
)
def test_impossible_settings(options: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        KaldiFbankConfig(**options)
