"""Changes of a recording that keep its content, each at several strengths.

Notable choices:

- Every change keeps the length of the clip, so that patches remain comparable one by one.
- Reverberation keeps the level of the clip, so that its effect is not mixed with that of gain.
- The low-pass has no delay, so that its effect is not mixed with that of a shift.
- BEATs shows in a picture (figure 4) that tokens are robust to noise and reverberation. Here the changes are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.signal import butter, fftconvolve, sosfiltfilt

from .clips import Wave

Random = np.random.Generator
Change = Callable[[Wave, int, float, Random], Wave]


@dataclass(frozen=True)
class Perturbation:
    """One change at one strength.

    Attributes:
        family: kind of change
        strength: strength in `unit`
        highest_rate: the change has no effect on recordings up to this sample rate, in Hz
    """

    family: str
    strength: float
    unit: str
    change: Change
    highest_rate: float = 0.0

    @property
    def name(self) -> str:
        """The strength with its unit: `20 dB`."""
        return f"{self.strength:g} {self.unit}".replace("-", "−")

    def __call__(self, wave: Wave, sample_rate: int, random: Random) -> Wave:
        """Change a clip, (S,) to (S,)."""
        return self.change(wave, sample_rate, self.strength, random).astype(np.float32)


def add_noise(wave: Wave, sample_rate: int, ratio_db: float, random: Random) -> Wave:
    """Add white Gaussian noise at a signal-to-noise ratio of `ratio_db`."""
    level = _rms(wave) * 10 ** (-ratio_db / 20)
    return wave + (level * random.standard_normal(len(wave))).astype(np.float32)


def reverberate(wave: Wave, sample_rate: int, decay_seconds: float, random: Random) -> Wave:
    """Add a diffuse tail as loud as the direct sound: noise whose level falls by 60 dB in `decay_seconds`.

    The model is Polack's (1988). The clip keeps its root mean square.
    """
    time = np.arange(round(decay_seconds * sample_rate)) / sample_rate
    response = random.standard_normal(len(time)) * 10 ** (-3 * time / decay_seconds)
    response /= np.sqrt(np.square(response).sum())
    response[0] += 1.0
    wet: Wave = fftconvolve(wave, response)[: len(wave)]
    return wet * (_rms(wave) / max(_rms(wet), 1e-12))


def amplify(wave: Wave, sample_rate: int, gain_db: float, random: Random) -> Wave:
    """Apply a gain, without clipping."""
    return wave * np.float32(10 ** (gain_db / 20))


def limit_band(wave: Wave, sample_rate: int, highest_khz: float, random: Random) -> Wave:
    """Remove frequencies above `highest_khz`, without delay: a Butterworth low-pass of order 8, run both ways."""
    sections = butter(8, 1000 * highest_khz, fs=sample_rate, output="sos")
    limited: Wave = sosfiltfilt(sections, wave, padlen=min(3 * (2 * len(sections) + 1), len(wave) - 1))
    return limited


def shift(wave: Wave, sample_rate: int, delay_ms: float, random: Random) -> Wave:
    """Delay the clip by silence at its beginning, and cut off its end."""
    samples = min(len(wave), round(delay_ms * sample_rate / 1000))
    return np.concatenate([np.zeros(samples, np.float32), wave[: len(wave) - samples]])


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.square(wave, dtype=np.float64).mean()))


FAMILIES: Final = (
    ("noise", "dB", add_noise, (30.0, 20.0, 10.0, 0.0)),
    ("reverberation", "s", reverberate, (0.1, 0.3, 1.0)),
    ("gain", "dB", amplify, (-3.0, -10.0, -20.0)),
    ("low-pass", "kHz", limit_band, (6.0, 4.0, 2.0)),
    ("delay", "ms", shift, (2.0, 10.0, 40.0, 80.0)),
)
"""Every family with its strengths, mild ones first."""

PERTURBATIONS: Final = tuple(
    Perturbation(family, strength, unit, change, 2000 * strength if family == "low-pass" else 0.0)
    for family, unit, change, strengths in FAMILIES
    for strength in strengths
)
