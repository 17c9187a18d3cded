"""Decoding: the requested stretch and rate, one channel, and errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.decode import decode, decode_stretches
from ossicle.core.errors import CorpusError


def sine(frequency: float, seconds: float, sample_rate: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)


def test_does_not_change_samples_at_the_native_rate(tmp_path: Path) -> None:
    expected = sine(440, 0.5, 16000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", expected, 16000, subtype="FLOAT")

    waveform = decode(tmp_path / "a.wav", 16000)

    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, expected)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_resamples_every_format_to_the_same_tone(tmp_path: Path, suffix: str) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", sine(1000, 1.0, 44100), 44100)

    waveform = decode(tmp_path / f"a.{suffix}", 16000)

    assert abs(len(waveform) - 16000) < 100
    assert np.argmax(np.abs(np.fft.rfft(waveform[:15000]))) == pytest.approx(1000 * 15000 / 16000, abs=1)
    assert np.abs(waveform[4000:12000]).max() == pytest.approx(0.5, abs=0.03)


def test_averages_channels(tmp_path: Path) -> None:
    left, right = sine(440, 0.2, 16000), sine(700, 0.2, 16000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000, subtype="FLOAT")

    np.testing.assert_allclose(decode(tmp_path / "a.wav", 16000), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("sound", ["noise", "tone"])
def test_reads_only_the_requested_stretch(tmp_path: Path, suffix: str, sound: str) -> None:
    path = tmp_path / f"a.{suffix}"
    # A frame of a tone has few bits in an MP3, many of which are stored in the frames before.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 64000)
    soundfile.write(path, noise if sound == "noise" else sine(440, 4.0, 16000), 16000)
    whole = decode(path, 16000)

    for start in (0.25, 2.5, 2.77):
        found, expected = decode(path, 16000, start_seconds=start, seconds=0.5), whole[round(start * 16000) :][:8000]
        np.testing.assert_allclose(found, expected, atol=1e-6 if suffix == "mp3" else 0)
    np.testing.assert_allclose(decode(path, 16000, start_seconds=3.75, seconds=5.0), whole[60000:], atol=1e-6)
    assert decode(path, 16000, start_seconds=5.0, seconds=1.0).shape == (0,)


def test_errors_name_the_file_and_the_fault(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is text")

    with pytest.raises(CorpusError, match=r"gone\.wav` does not exist"):
        decode(tmp_path / "gone.wav", 16000)
    with pytest.raises(CorpusError, match=r"empty\.wav` is an empty file"):
        decode(tmp_path / "empty.wav", 16000)
    with pytest.raises(CorpusError, match=r"text\.wav` cannot be decoded: .*Allowed: .*FLAC"):
        decode(tmp_path / "text.wav", 16000)


def test_refuses_to_open_files_that_are_not_regular(pipe: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"pipe\.wav` is a named pipe, not a regular file"):
        decode(pipe, 16000)
    with pytest.raises(CorpusError, match=r"null` is a device, not a regular file"):
        decode("/dev/null", 16000)
    with pytest.raises(CorpusError, match=r"` is a folder, not a regular file"):
        decode(tmp_path, 16000)


def write_with_rate(path: Path, rate: int) -> None:
    """Write a wav of 1,600 samples whose header states `rate`."""
    soundfile.write(path, sine(0.02, 1600, 1), 16000)
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2**31 - 1])
def test_implausible_sample_rates_are_refused(tmp_path: Path, rate: int) -> None:
    write_with_rate(tmp_path / "a.wav", rate)

    message = rf"a\.wav` states a sample rate of {rate:,} Hz; allowed: 1,000 to 768,000 Hz"
    with pytest.raises(CorpusError, match=message):
        decode(tmp_path / "a.wav", 16000)
    with pytest.raises(CorpusError, match=message):
        list(decode_stretches(tmp_path / "a.wav", 16000))


@pytest.mark.parametrize("rate", [1_000, 768_000])
def test_unusual_sample_rates_are_read(tmp_path: Path, rate: int) -> None:
    write_with_rate(tmp_path / "a.wav", rate)

    assert len(decode(tmp_path / "a.wav", 16000)) == pytest.approx(1600 * 16000 / rate, abs=1)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (16000, 2), (44100, 2), (8000, 1)])
def test_joined_stretches_equal_the_whole_recording(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, (23 * rate + 17, channels)), rate)
    stretches = list(decode_stretches(path, 16000))
    assert len(stretches) > 2
    np.testing.assert_array_equal(np.concatenate(stretches), decode(path, 16000))


def test_joined_stretches_of_an_mp3_have_no_noise(tmp_path: Path) -> None:
    path = tmp_path / "long.mp3"
    soundfile.write(path, sine(440, 25.0, 16000), 16000)

    np.testing.assert_allclose(np.concatenate([*decode_stretches(path, 16000)]), decode(path, 16000), atol=1e-6)


def test_stretches_of_an_empty_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.empty(0), 44100)
    assert sum(map(len, decode_stretches(tmp_path / "empty.wav", 16000))) == 0
    with pytest.raises(CorpusError, match="does not exist"):
        list(decode_stretches(tmp_path / "gone.wav", 16000))
