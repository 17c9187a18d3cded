"""Pooling compared with loops, and padding that changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.core.data import Encoded, Grid
from ossicle.core.errors import PluginError
from ossicle.encoders.pooling import encoded_views, log_mel_views, pool_columns, pool_mean

COLUMNS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def encoded(columns, bands=3, width=4, padding=0, fill=float("nan")):
    """Draw clips with the given numbers of columns, padded with `fill`."""
    most = max(columns) + padding
    sequence = torch.full((len(columns), most * bands, width), fill)
    valid = torch.zeros(len(columns), most * bands, dtype=torch.bool)
    for clip, own in enumerate(columns):
        generator = torch.Generator().manual_seed(clip)
        sequence[clip, : own * bands] = torch.randn(own * bands, width, generator=generator)
        valid[clip, : own * bands] = True
    return Encoded(sequence, valid, Grid(most, bands))


@given(COLUMNS)
@settings(max_examples=25, deadline=None)
def test_views_equal_loops(columns):
    batch = encoded(columns)
    views = encoded_views(batch)
    assert {name: tuple(view.shape) for name, view in views.items()} == {
        "mean": (len(columns), 4),
        "bands": (len(columns), 12),
        "bands+std": (len(columns), 24),
    }
    for clip, own in enumerate(columns):
        patches = batch.sequence[clip, : own * 3]
        torch.testing.assert_close(views["mean"][clip], patches.mean(0))
        by_band = [torch.stack([patches[column * 3 + band] for column in range(own)]) for band in range(3)]
        means = [values.mean(0) for values in by_band]
        stds = [values.std(0, correction=0) for values in by_band]
        torch.testing.assert_close(views["bands"][clip], torch.cat(means))
        torch.testing.assert_close(views["bands+std"][clip], torch.cat([*means, *stds]))
        frames, _ = pool_columns(encoded([own]))
        torch.testing.assert_close(frames[0, 0], encoded([own]).sequence[0, :3].mean(0))


@given(COLUMNS, st.integers(0, 5), st.sampled_from([float("nan"), float("inf"), 1e30]))
@settings(max_examples=25, deadline=None)
def test_padding_changes_nothing(columns, padding, fill):
    plain, padded = encoded_views(encoded(columns)), encoded_views(encoded(columns, padding=padding, fill=fill))
    for name, view in plain.items():
        torch.testing.assert_close(padded[name], view)
    single = encoded_views(encoded(columns[:1]))
    for name, view in single.items():
        torch.testing.assert_close(plain[name][:1], view)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_log_mel_views_use_only_real_frames(lengths, padding):
    frames = torch.randn(len(lengths), max(lengths) + padding, 5, generator=torch.Generator().manual_seed(0))
    for clip, length in enumerate(lengths):
        frames[clip, length:] = float("nan")
    views = log_mel_views(frames, torch.tensor(lengths))
    for clip, length in enumerate(lengths):
        real = frames[clip, :length]
        torch.testing.assert_close(views["mean"][clip], real.mean(0))
        torch.testing.assert_close(views["mean+std"][clip], torch.cat([real.mean(0), real.std(0, correction=0)]))


def test_visible_patches_have_a_mean_but_no_bands():
    batch = encoded([2])
    some = Encoded(batch.sequence[:, :4], batch.valid[:, :4], batch.grid)
    assert pool_mean(some).shape == (1, 4)
    expected = r"expected 6 vectors a clip \(2 columns x 3 bands\), but the encoder gave 4"
    with pytest.raises(PluginError, match=expected):
        encoded_views(some)


def test_sums_are_float32_and_empty_clips_are_zeros():
    batch = encoded([2])
    batch.sequence = batch.sequence.to(torch.bfloat16)
    batch.valid[:] = False
    for view in encoded_views(batch).values():
        assert view.dtype == torch.float32
        assert not view.any()
