"""Acoustic effects for rendered corpora: reverberation, level, noise, and conversion to 16-bit samples.

Every function is a pure function of its random generator and its arguments.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float64]

_CEILING = 0.98


def coloured_noise(rng: np.random.Generator, samples: int, exponent: float) -> Waveform:
    """Draw (S,) noise of unit root mean square and power 1 / frequency ** `exponent` (0 is white, 1 is pink)."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.arange(spectrum.size), 1)
    noise = np.fft.irfft(spectrum * frequency ** (-exponent / 2), samples)
    return np.asarray(noise / _rms(noise))


def in_room(
    rng: np.random.Generator, dry: Waveform, sample_rate: int, *, reverberation_seconds: float, wet_db: float
) -> Waveform:
    """Add the reverberation of a room to (S,) `dry`. The tail after the end is cut off.

    Args:
        sample_rate: in Hz
        reverberation_seconds: time until the reverberation has fallen by 60 dB
        wet_db: energy of the reverberation relative to the direct sound
    """
    taps = round(reverberation_seconds * sample_rate)
    tail = rng.standard_normal(taps) * 10 ** (-3 * np.arange(taps) / taps)
    tail *= 10 ** (wet_db / 20) / np.linalg.norm(tail)
    size = 1 << (dry.size + taps).bit_length()
    return np.asarray(dry + np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(tail, size), size)[: dry.size])


def at_level(sound: Waveform, peak_dbfs: float) -> Waveform:
    """Scale (S,) `sound` so that its peak is `peak_dbfs`, in decibels relative to full scale."""
    peak = np.abs(sound).max(initial=0.0)
    return sound if peak == 0 else np.asarray(sound * 10 ** (peak_dbfs / 20) / peak)


def with_noise(rng: np.random.Generator, sound: Waveform, *, snr_db: float, exponent: float) -> Waveform:
    """Add coloured noise to (S,) `sound`. Its root mean square over the clip is `snr_db` decibels below the sound's."""
    noise = coloured_noise(rng, sound.size, exponent)
    return np.asarray(sound + noise * _rms(sound) * 10 ** (-snr_db / 20))


def to_pcm16(sound: Waveform) -> npt.NDArray[np.int16]:
    """Round (S,) `sound` to 16 bits. A sound that would clip is scaled down as a whole."""
    peak = np.abs(sound).max(initial=0.0)
    rounded: npt.NDArray[np.int16] = np.rint(sound * 32767 * min(1.0, _CEILING / max(peak, 1e-12))).astype(np.int16)
    return rounded


def _rms(sound: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(sound))))
