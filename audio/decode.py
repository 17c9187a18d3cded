"""Decode a file to a mono waveform at a given rate. Importable without torch.

Notable choices:

- Only the requested stretch is read.
- Channels are averaged before resampling, so a stereo file is resampled only once.
- Resampling uses soxr's quality HQ, which has 20-bit precision.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# fairseq2's native library needs the libsndfile that soundfile bundles: soundfile must be imported before it.
import soundfile
import soxr

from ..core.errors import CorpusError
from .decoder_notes import DecoderNotes, collected_into

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
"""Range of plausible rates, in Hz. Others come from damaged headers: resampling from 1 Hz turns minutes into days."""

# libsndfile reports at least this length for a FLAC whose header states none. It can then neither seek in the file nor
# read to its end.
_UNKNOWN_FRAMES = 2**62
_QUALITY = "HQ"
# An MP3 frame may use bits from up to 511 bytes before it, which are less than 0.5 s at the lowest bit rates.
_MP3_LEAD_SECONDS = 1.0
_log = logging.getLogger("ossicle")


def decode(
    path: Path | str, sample_rate: int, *, start_seconds: float = 0.0, seconds: float | None = None
) -> npt.NDArray[np.float32]:
    """Decode a recording, or a stretch of it, to mono.

    Args:
        sample_rate: rate of the result in Hz
        start_seconds: where to begin
        seconds: maximum length to read; to the end if None

    Returns:
        (S,) waveform, full scale at ±1. It is shorter than `seconds` if the recording ends before.

    Raises:
        CorpusError: if the file is missing or cannot be decoded
    """
    samples, native_rate = read_native(path, start_seconds=start_seconds, seconds=seconds)
    return to_mono(samples, native_rate, sample_rate)


STRETCH_SECONDS = 10.0
"""Length of a stretch in `decode_stretches`, in seconds."""


def decode_stretches(path: Path | str, sample_rate: int) -> Iterator[npt.NDArray[np.float32]]:
    """Decode a recording to mono stretch by stretch. Joined, the stretches equal the result of `decode` bit for bit.

    Logs one warning if the decoder reports damage.

    Args:
        sample_rate: rate of the result in Hz

    Raises:
        CorpusError: if the file is missing or cannot be decoded
    """
    with open_sound(path) as file:
        at_once = round(STRETCH_SECONDS * file.samplerate)
        resample = Resampler(file.samplerate, sample_rate)
        while len(samples := file.read(at_once, dtype="float32", always_2d=True)):
            yield resample(_mono(samples))
        yield resample.rest()
        if file.notes:
            _log.warning("`%s` is damaged, but was read: %s", path, file.notes)


class Resampler:
    """Resampler of consecutive stretches of a recording, without seams.

    Args:
        native_rate, sample_rate: source and target rate in Hz
    """

    def __init__(self, native_rate: int, sample_rate: int) -> None:
        # With equal rates soxr would change the last bits of the samples.
        self._stream = (
            None
            if native_rate == sample_rate
            else soxr.ResampleStream(native_rate, sample_rate, 1, dtype="float32", quality=_QUALITY)
        )

    def __call__(self, mono: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Add (S,) samples and return those that are ready. The filter holds some back."""
        return mono if self._stream is None else self._resampled(mono, last=False)

    def rest(self) -> npt.NDArray[np.float32]:
        """Return the remaining samples after the last stretch."""
        nothing = np.empty(0, np.float32)
        return nothing if self._stream is None else self._resampled(nothing, last=True)

    def _resampled(self, mono: npt.NDArray[np.float32], *, last: bool) -> npt.NDArray[np.float32]:
        assert self._stream is not None
        resampled: npt.NDArray[np.float32] = self._stream.resample_chunk(mono, last=last)
        return resampled


def read_native(
    path: Path | str, *, start_seconds: float = 0.0, seconds: float | None = None
) -> tuple[npt.NDArray[np.float32], int]:
    """Read (S, channels) samples at the file's native rate, and that rate in Hz.

    Raises:
        CorpusError: if the file is missing or cannot be decoded
    """
    with open_sound(path) as file:
        if start_seconds:
            file.go_to(round(start_seconds * file.samplerate))
        frames = -1 if seconds is None else round(seconds * file.samplerate)
        return file.read(frames, dtype="float32", always_2d=True), int(file.samplerate)


@contextmanager
def open_sound(path: Path | str) -> Iterator[Sound]:
    """Open a recording for reading. Decoder errors inside the `with` block are raised as `CorpusError`, too.

    Raises:
        CorpusError: if the file is missing, is not a regular file, cannot be decoded, or has an implausible header
    """
    # libsndfile would block on a named pipe until a program writes into it.
    if kind := _kind_if_special(path):
        raise CorpusError(f"`{path}` is a {kind}, not a regular file; write the audio into a file.")
    notes = DecoderNotes()
    try:
        with Sound(path, notes) as file:
            if problem := _header_problem(file):
                raise CorpusError(f"`{path}` {problem}")
            yield file
    except (OSError, RuntimeError) as error:  # soundfile's own errors are RuntimeErrors
        raise CorpusError(_why(Path(path), error, notes)) from error


class Sound(soundfile.SoundFile):  # type: ignore[misc]  # soundfile comes without types
    """A recording that is read sequentially. `notes` collects the messages that the decoder prints."""

    def __init__(self, path: Path | str, notes: DecoderNotes) -> None:
        self.notes = notes
        self._next = 0
        with collected_into(notes):
            super().__init__(path)

    def seekable(self) -> bool:
        """Return False, so that `read` does not seek to the current position.

        A seek makes mpg123 discard bits that the next frames of an MP3 need from the frames before them. These frames
        would be decoded to noise.
        """
        return False

    def read(self, frames: int = -1, *args: Any, **options: Any) -> Any:
        """Read as `SoundFile.read` does."""
        left = self.frames - self._next
        with collected_into(self.notes):
            samples = super().read(left if frames < 0 else min(frames, left), *args, **options)
        self._next += len(samples)
        return samples

    def go_to(self, frame: int) -> None:
        """Move to a frame, or to the end if the recording is shorter."""
        frame = min(frame, self.frames)
        lead = min(frame, round(_MP3_LEAD_SECONDS * self.samplerate)) if self.format == "MP3" else 0
        with collected_into(self.notes):
            self._next = self.seek(frame - lead)
        self.read(lead)


def _kind_if_special(path: Path | str) -> str | None:
    """Name the kind of a path that exists and is not a regular file."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    return None if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "device")


def _header_problem(file: soundfile.SoundFile) -> str | None:
    if file.frames >= _UNKNOWN_FRAMES:
        return "states no length, as when a program writes into a pipe; convert it again, into a file."
    if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
        return (
            f"states a sample rate of {file.samplerate:,} Hz; allowed: {MIN_SAMPLE_RATE:,} to {MAX_SAMPLE_RATE:,} Hz. "
            "Its header is probably damaged; correct it or convert the recording again."
        )
    return None


def to_mono(samples: npt.NDArray[np.float32], native_rate: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Average the channels of (S, channels) samples and resample from `native_rate` to `sample_rate`, both in Hz."""
    mono = _mono(samples)
    if native_rate != sample_rate and mono.size:
        mono = soxr.resample(mono, native_rate, sample_rate, quality=_QUALITY)
    return np.ascontiguousarray(mono, dtype=np.float32)


def _mono(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    mono: npt.NDArray[np.float32] = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return mono


def _why(path: Path, error: Exception, notes: DecoderNotes) -> str:
    if not path.exists():
        return f"`{path}` does not exist."
    if path.is_file() and path.stat().st_size == 0:
        return f"`{path}` is an empty file."
    reason = str(error).removeprefix(f"Error opening {str(path)!r}: ")
    if notes:  # the decoder printed something, hence the format can be read
        return f"`{path}` cannot be decoded: {reason} Before that, {notes}."
    return f"`{path}` cannot be decoded: {reason} Allowed: {', '.join(sorted(soundfile.available_formats()))}."
