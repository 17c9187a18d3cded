"""Augmentation: which values change, which may not, and that only a clip's draw decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ossicle.audio.augmentation import generators, mask_frequency, mask_time, mix, roll
from ossicle.core.data import SpectrogramBatch

quick = settings(max_examples=30, deadline=None)
shares = st.floats(0.05, 1.0)
counts = st.integers(1, 3)


@st.composite
def batches(draw: Any) -> SpectrogramBatch:
    """Draw clips of several lengths. The padding is random, too, so that its use would be noticed."""
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=5))
    bins = draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**31))
    frames = torch.randn(len(lengths), max(lengths), bins, generator=torch.Generator().manual_seed(seed))
    draws = torch.tensor(draw(st.lists(st.integers(0, 2**63 - 1), min_size=len(lengths), max_size=len(lengths))))
    return SpectrogramBatch(frames, torch.tensor(lengths), torch.tensor(lengths) * 160, draws=draws)


def changed(batch: SpectrogramBatch, how: str, *given: Any) -> Tensor:
    random = generators(batch)
    if how == "mix":
        return mix(batch.frames, batch.lengths, 0.5, random).frames
    if how == "roll":
        return roll(batch.frames, batch.lengths, random)
    return {"time": mask_time, "frequency": mask_frequency}[how](batch.frames, batch.lengths, *given, random)


def single(batch: SpectrogramBatch, clip: int) -> SpectrogramBatch:
    length = int(batch.lengths[clip])
    one = slice(clip, clip + 1)
    assert batch.draws is not None
    return SpectrogramBatch(batch.frames[one, :length], batch.lengths[one], batch.samples[one], draws=batch.draws[one])


WAYS = st.sampled_from([("roll",), ("time", 2, 0.5), ("frequency", 2, 0.5), ("mix",)])


@quick
@given(batches(), WAYS)
def test_padding_never_changes_and_is_never_used(batch: SpectrogramBatch, way: tuple[Any, ...]) -> None:
    found = changed(batch, *way)
    padding = torch.arange(batch.frames.shape[1]) >= batch.lengths[:, None]
    assert torch.equal(found[padding], batch.frames[padding])

    other = SpectrogramBatch(batch.frames.clone(), batch.lengths, batch.samples, draws=batch.draws)
    other.frames[padding] = float("nan")
    assert torch.equal(changed(other, *way)[~padding], found[~padding])


@quick
@given(batches(), WAYS)
def test_only_the_draws_decide_and_the_global_generator_is_not_used(
    batch: SpectrogramBatch, way: tuple[Any, ...]
) -> None:
    before = torch.get_rng_state()
    first = changed(batch, *way)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert torch.equal(changed(batch, *way), first)


@quick
@given(batches(), st.sampled_from([("roll",), ("time", 2, 0.5), ("frequency", 2, 0.5)]), st.data())
def test_a_clip_changes_in_the_same_way_in_any_batch(
    batch: SpectrogramBatch, way: tuple[Any, ...], data: st.DataObject
) -> None:
    clip = data.draw(st.integers(0, len(batch.lengths) - 1))
    found = changed(batch, *way)[clip, : batch.lengths[clip]]
    assert torch.allclose(changed(single(batch, clip), *way)[0], found, atol=1e-6)


@quick
@given(batches())
def test_rolling_keeps_all_frames_in_cyclic_order(batch: SpectrogramBatch) -> None:
    for clip, found in zip(range(len(batch.lengths)), changed(batch, "roll"), strict=True):
        length = int(batch.lengths[clip])
        real = batch.frames[clip, :length]
        assert any(torch.equal(found[:length], real.roll(shift, 0)) for shift in range(length))


def test_all_shifts_of_a_roll_are_equally_likely() -> None:
    frames = torch.arange(5.0).repeat(2000, 1)[..., None]
    batch = SpectrogramBatch(frames, torch.full((2000,), 5), torch.full((2000,), 800), draws=torch.arange(2000))
    firsts = torch.bincount(changed(batch, "roll")[:, 0, 0].long())
    assert firsts.min() > 340
    assert firsts.max() < 460


@quick
@given(batches(), counts, shares)
def test_masked_stretches_do_not_exceed_their_share_and_have_the_clips_mean(
    batch: SpectrogramBatch, count: int, share: float
) -> None:
    for way, axis in (("time", 1), ("frequency", 0)):
        found = changed(batch, way, count, share)
        for clip, length in enumerate(batch.lengths.tolist()):
            real, masked = batch.frames[clip, :length], found[clip, :length]
            where = masked != real
            assert torch.allclose(masked[where], real.mean(), atol=1e-5)
            lines = where.any(axis)
            assert torch.equal(where, lines.unsqueeze(axis).expand_as(where))
            assert int(lines.sum()) <= count * int(share * len(lines))


def test_masks_have_every_width_up_to_the_longest() -> None:
    frames = torch.randn(500, 20, 3, generator=torch.Generator().manual_seed(0))
    batch = SpectrogramBatch(frames, torch.full((500,), 20), torch.full((500,), 3200), draws=torch.arange(500))
    widths = (changed(batch, "time", 1, 0.2) != frames).any(2).sum(1)
    assert torch.bincount(widths, minlength=5).min() > 60
    assert widths.max() == 4


@quick
@given(batches(), st.floats(0.1, 5.0))
def test_mixing_equals_a_slow_second_implementation(batch: SpectrogramBatch, alpha: float) -> None:
    found = mix(batch.frames, batch.lengths, alpha, generators(batch))
    partners, lengths = found.partner.tolist(), batch.lengths.tolist()
    assert sorted(partners) == list(range(len(lengths)))
    if len(lengths) > 1:
        assert all(partner != clip for clip, partner in enumerate(partners))
    for clip, partner in enumerate(partners):
        generator = generators(batch)[clip]
        generator.random()
        share = generator.beta(alpha, alpha)
        both = min(lengths[clip], lengths[partner])
        for frame in range(lengths[clip]):
            own = batch.frames[clip, frame]
            expected = (1 - share) * own + share * batch.frames[partner, frame] if frame < both else own
            assert torch.allclose(found.frames[clip, frame], expected, atol=1e-5)
        assert np.isclose(found.share[clip], share * both / lengths[clip], atol=1e-6)


def test_without_draws_torchs_generator_is_used() -> None:
    batch = SpectrogramBatch(torch.randn(4, 9, 2), torch.full((4,), 9), torch.full((4,), 1440))
    torch.manual_seed(5)
    first = changed(batch, "roll")
    second = changed(batch, "roll")
    torch.manual_seed(5)
    assert torch.equal(changed(batch, "roll"), first)
    assert not torch.equal(first, second)
