"""Changes of a recording: their effect, their strength, and an unchanged length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from ossicle.token_cards.perturbations import (
    PERTURBATIONS,
    Perturbation,
    add_noise,
    amplify,
    limit_band,
    reverberate,
    shift,
)

RATE = 16000
TIME = np.arange(RATE) / RATE


def tone(hertz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def power(wave: np.ndarray) -> float:
    return float(np.square(wave, dtype=np.float64).mean())


@pytest.mark.parametrize("ratio", [30.0, 0.0, -5.0])
def test_noise_has_the_given_ratio(ratio: float) -> None:
    wave = tone(440)
    noise = add_noise(wave, RATE, ratio, random()) - wave
    assert 10 * np.log10(power(wave) / power(noise)) == pytest.approx(ratio, abs=0.2)


@pytest.mark.parametrize("seconds", [0.2, 0.5])
def test_a_tail_is_as_loud_as_the_direct_sound_and_falls_by_60_db(seconds: float) -> None:
    click = np.zeros(RATE, np.float32)
    click[0] = 1.0
    wet = reverberate(click, RATE, seconds, random())
    assert power(wet) == pytest.approx(power(click), rel=1e-6)
    direct = wet[0] ** 2
    tail = np.square(wet[1:], dtype=np.float64)
    assert tail.sum() / direct == pytest.approx(1.0, rel=0.15)
    level = 10 * np.log10(tail[: round(seconds * RATE) - 1])
    slope = np.polyfit(TIME[: len(level)], level, 1)[0]
    assert slope * seconds == pytest.approx(-60, abs=3)
    assert not wet[round(seconds * RATE) + 1 :].any() or np.abs(wet[round(seconds * RATE) + 1 :]).max() < 1e-6


def test_gain_is_exact() -> None:
    np.testing.assert_allclose(amplify(tone(440), RATE, -20, random()), tone(440) / 10, rtol=1e-6)


def test_a_low_pass_removes_high_frequencies_without_delay() -> None:
    low = limit_band(tone(500), RATE, 2.0, random())
    np.testing.assert_allclose(low[2000:-2000], tone(500)[2000:-2000], atol=1e-3)
    assert power(limit_band(tone(4000), RATE, 2.0, random())[2000:-2000]) < 1e-6 * power(tone(4000))
    noise = random().standard_normal(RATE).astype(np.float32)
    lag = correlate(limit_band(noise, RATE, 2.0, random()), noise).argmax() - (RATE - 1)
    assert lag == 0


def test_a_delay_is_exact() -> None:
    late = shift(tone(440), RATE, 10, random())
    assert not late[:160].any()
    np.testing.assert_array_equal(late[160:], tone(440)[:-160])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(PERTURBATIONS), st.integers(1, 3000), st.booleans())
def test_every_change_keeps_the_length_and_survives_short_clips_and_silence(
    change: Perturbation, samples: int, silent: bool
) -> None:
    wave = np.zeros(samples, np.float32) if silent else random().uniform(-1, 1, samples).astype(np.float32)
    changed = change(wave, RATE, random())
    assert changed.shape == wave.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert not (silent and changed.any())


def test_strengths_grow_within_a_family() -> None:
    noise = random().standard_normal(RATE).astype(np.float32)
    for family in ("noise", "gain", "low-pass"):
        changes = [change for change in PERTURBATIONS if change.family == family]
        moved = [power(change(noise, RATE, random()) - noise) for change in changes]
        assert moved == sorted(moved)
        assert len(changes) >= 3


def test_a_low_pass_above_the_band_of_the_recording_is_left_out() -> None:
    assert [change.strength for change in PERTURBATIONS if change.highest_rate >= 8000] == [6.0, 4.0]
