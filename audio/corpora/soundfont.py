"""Read a SoundFont 2 file and find the samples that sound for a key.

Numbers in comments are sections of the SoundFont Technical Specification 2.04.

Notable choices:

- This is a custom reader, because the `sf2utils` package needs `audioop`, which Python 3.13 removed.
- Only generators are read (tuning, range, loop, volume envelope, filter). Modulators, LFOs and the modulation envelope
  are left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Generators = dict[int, int]

_RECORDS: Final = {
    b"phdr": [("name", "S20"), ("preset", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")],
    b"pbag": [("gen", "<u2"), ("mod", "<u2")],
    b"pgen": [("oper", "<u2"), ("amount", "<i2")],
    b"inst": [("name", "S20"), ("bag", "<u2")],
    b"ibag": [("gen", "<u2"), ("mod", "<u2")],
    b"igen": [("oper", "<u2"), ("amount", "<i2")],
    b"shdr": [
        ("name", "S20"),
        *((column, "<u4") for column in ("start", "end", "loop_start", "loop_end", "rate")),
        ("key", "u1"),
        ("cents", "i1"),
        ("link", "<u2"),
        ("kind", "<u2"),
    ],
}

# 8.1.2: numbers of the generators.
_START, _END, _LOOP_START, _LOOP_END = (0, 4), (1, 12), (2, 45), (3, 50)
_CUTOFF, _RESONANCE = 8, 9
_DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE = 33, 34, 35, 36, 37, 38
_INSTRUMENT, _KEY_RANGE, _VELOCITY_RANGE, _ATTENUATION = 41, 43, 44, 48
_SEMITONES, _CENTS, _SAMPLE, _SAMPLE_MODE, _SCALE_TUNING, _ROOT_KEY = 51, 52, 53, 54, 56, 58
_DEFAULTS: Final = {_CUTOFF: 13500, _SCALE_TUNING: 100, _ROOT_KEY: -1} | dict.fromkeys(
    (_DELAY, _ATTACK, _HOLD, _DECAY, _RELEASE), -12000
)
_WHOLE_RANGE: Final = 127 << 8
_OPEN_CUTOFF: Final = 13500


@dataclass(frozen=True)
class Voice:
    """One recorded sample with its parameters for one key.

    Attributes:
        samples: (S,) float32 in [-1, 1)
        step: samples to advance per second of sound, which determines the pitch
        loop: first sample of the loop and the first one after it; None for a sound without a loop
        delay, attack, hold, decay, release: times of the volume envelope, in seconds
        sustain_db: decibels of the sustain level below the peak of the envelope
        gain: linear
        cutoff_hz: cutoff of the low-pass filter; None if there is no filter
        resonance_db: height of the filter's peak at the cutoff
    """

    samples: npt.NDArray[np.float32]
    step: float
    loop: tuple[int, int] | None
    delay: float
    attack: float
    hold: float
    decay: float
    release: float
    sustain_db: float
    gain: float
    cutoff_hz: float | None
    resonance_db: float


class SoundFont:
    """The presets of one SoundFont 2 file. Samples are read from the file on demand."""

    def __init__(self, path: Path) -> None:
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        chunks = dict(_chunks(self._bytes))
        self._samples = chunks[b"smpl"].view("<i2")
        self._tables: dict[bytes, npt.NDArray[Any]] = {
            name: chunks[name].view(np.dtype(columns)) for name, columns in _RECORDS.items()
        }

    def voices(self, program: int, key: int, velocity: int, *, bank: int = 0) -> list[Voice]:
        """Find the samples that sound together for MIDI `key` of a program at `velocity`.

        Raises:
            KeyError: if the bank has no such program
        """
        presets = self._tables[b"phdr"]
        found = np.flatnonzero((presets["preset"] == program) & (presets["bank"] == bank))
        if not found.size:
            raise KeyError(f"bank {bank} has no program {program}")
        return [
            self._voice(instrument, preset, key)
            for preset in self._zones(b"p", int(found[0]), _INSTRUMENT, key, velocity)
            for instrument in self._zones(b"i", preset[_INSTRUMENT], _SAMPLE, key, velocity)
        ]

    def _zones(self, level: bytes, header: int, target: int, key: int, velocity: int) -> Iterator[Generators]:
        """Yield the zones of a preset (`p`) or instrument (`i`) for the key, with the values of the global zone."""
        headers = self._tables[b"phdr" if level == b"p" else b"inst"]["bag"]
        bags, generators = self._tables[level + b"bag"]["gen"], self._tables[level + b"gen"]
        common: Generators = {}
        for bag in range(int(headers[header]), int(headers[header + 1])):
            own: Generators = dict(generators[bags[bag] : bags[bag + 1]].tolist())
            if target not in own:
                common = own  # 7.3 and 7.7: a zone without a target is the global zone
                continue
            zone = common | own
            if _within(zone, _KEY_RANGE, key) and _within(zone, _VELOCITY_RANGE, velocity):
                yield zone

    def _voice(self, instrument: Generators, preset: Generators, key: int) -> Voice:
        def value(number: int) -> int:
            return instrument.get(number, _DEFAULTS.get(number, 0)) + preset.get(number, 0)  # 9.4: preset values add

        def offset(numbers: tuple[int, int]) -> int:
            fine, coarse = numbers
            return instrument.get(fine, 0) + 32768 * instrument.get(coarse, 0)

        def seconds(number: int) -> float:
            return float(2.0 ** (value(number) / 1200))  # 8.1.3: timecents

        sample = self._tables[b"shdr"][instrument[_SAMPLE]]
        start, end = int(sample["start"]) + offset(_START), int(sample["end"]) + offset(_END)
        loop = (
            int(sample["loop_start"]) + offset(_LOOP_START) - start,
            int(sample["loop_end"]) + offset(_LOOP_END) - start,
        )
        stated_root = instrument.get(_ROOT_KEY, -1)
        root = stated_root if stated_root >= 0 else (int(sample["key"]) if sample["key"] <= 127 else 60)
        cents = (key - root) * value(_SCALE_TUNING) + 100 * value(_SEMITONES) + value(_CENTS) + int(sample["cents"])
        cutoff = value(_CUTOFF)
        return Voice(
            samples=self._samples[start:end].astype(np.float32) / np.float32(32768),
            step=float(sample["rate"]) * 2.0 ** (cents / 1200),
            loop=loop if instrument.get(_SAMPLE_MODE, 0) in (1, 3) and loop[1] - loop[0] > 1 else None,
            delay=seconds(_DELAY),
            attack=seconds(_ATTACK),
            hold=seconds(_HOLD),
            decay=seconds(_DECAY),
            release=seconds(_RELEASE),
            sustain_db=min(max(value(_SUSTAIN) / 10, 0.0), 100.0),
            gain=10.0 ** (-max(value(_ATTENUATION), 0) / 200),
            cutoff_hz=8.176 * 2.0 ** (cutoff / 1200) if cutoff < _OPEN_CUTOFF else None,
            resonance_db=max(value(_RESONANCE), 0) / 10,
        )


def _chunks(data: npt.NDArray[np.uint8]) -> Iterator[tuple[bytes, npt.NDArray[np.uint8]]]:
    """Yield name and bytes of every leaf chunk of a RIFF file."""
    position = 0
    while position + 8 <= len(data):
        name, size = struct.unpack("<4sI", data[position : position + 8].tobytes())
        position += 8
        if name in (b"RIFF", b"LIST"):
            position += 4
            continue
        yield name, data[position : position + size]
        position += size + size % 2


def _within(zone: Generators, number: int, value: int) -> bool:
    span = zone.get(number, _WHOLE_RANGE)
    return span & 0xFF <= value <= (span >> 8) & 0xFF
