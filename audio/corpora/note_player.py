"""Play single notes from a soundfont.

Notable choices:

- Samples are read by linear interpolation.
- The low-pass filter has a fixed cutoff, the one that the soundfont states.
- The filter is applied in the frequency domain with the response of the analogue two-pole filter, so only numpy is
  needed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .soundfont import SoundFont, Voice

Waveform = npt.NDArray[np.float64]

_FULL_FALL_DB = 100.0
# Padding in samples, which keeps the ringing of the filter from wrapping around to the beginning.
_FILTER_TAIL = 1500
_NEPERS_PER_DB = math.log(10) / 20


def play_note(
    font: SoundFont,
    program: int,
    key: int,
    velocity: int,
    *,
    held_seconds: float,
    seconds: float,
    sample_rate: int,
) -> Waveform:
    """Play one note, including the sound after its release.

    Args:
        program: General MIDI program, counted from 0
        key: MIDI key, 60 is middle C
        velocity: MIDI velocity, 1 to 127
        held_seconds: time from the start of the note to its release
        seconds: length of the result
        sample_rate: rate of the result in Hz

    Returns:
        (S,) waveform. The sum of several voices may exceed ±1.
    """
    total = np.zeros(round(seconds * sample_rate))
    for voice in font.voices(program, key, velocity):
        times = np.arange(total.size) / sample_rate - voice.delay
        sound = _read(voice, times * voice.step)
        if voice.cutoff_hz is not None:
            sound = _low_pass(sound, voice.cutoff_hz, voice.resonance_db, sample_rate)
        total += voice.gain * _envelope(voice, times, held_seconds) * sound
    return total * (velocity / 127) ** 2  # the specification's default curve from velocity to attenuation (8.4.1)


def _read(voice: Voice, positions: Waveform) -> Waveform:
    """Read the voice's samples at fractional positions, repeating the loop. Outside of the samples there is silence."""
    if voice.loop is not None:
        first, after = voice.loop
        positions = np.where(positions < after, positions, first + (positions - first) % (after - first))
    return np.interp(positions, np.arange(voice.samples.size), voice.samples, left=0.0, right=0.0)


def _envelope(voice: Voice, times: Waveform, held_seconds: float) -> Waveform:
    """Compute the volume envelope at `times`, in seconds from its start: linear attack, then linear decay in dB."""
    rise = np.clip(times / voice.attack, 0.0, 1.0)
    fall_db = np.clip((times - voice.attack - voice.hold) * (_FULL_FALL_DB / voice.decay), 0.0, voice.sustain_db)
    release_db = np.maximum(times - held_seconds, 0.0) * (_FULL_FALL_DB / voice.release)
    return np.asarray(rise * np.exp(-_NEPERS_PER_DB * (fall_db + release_db)))


def _low_pass(sound: Waveform, cutoff_hz: float, resonance_db: float, sample_rate: int) -> Waveform:
    size = 1 << (sound.size + _FILTER_TAIL - 1).bit_length()
    ratio = np.fft.rfftfreq(size, 1 / sample_rate) / cutoff_hz
    damping = 2**0.5 * 10 ** (-resonance_db / 20)
    return np.fft.irfft(np.fft.rfft(sound, size) / (1 - ratio**2 + 1j * damping * ratio), size)[: sound.size]
