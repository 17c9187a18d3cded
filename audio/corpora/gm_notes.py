"""`gm_notes`: classify which of 16 General MIDI instruments plays the one or two notes in a noisy room.

Two-second clips at 16 kHz, played from `TimGM6mb.sf2` inside the `pretty_midi` wheel.

Notable choices:

- Training, validation and test clips have disjoint pitch classes, so a classifier must separate timbre from pitch.
- The unlabelled clips use only the *training* pitch classes, so pre-training never sees notes of the test clips.
- Each clip has its own random seed, so a smaller configuration is a subset of a larger one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.corpus import TEST, TRAIN, UNLABELLED, VALID
from ...core.errors import CorpusError
from ..corpus_config import GmNotesConfig
from .acoustics import Waveform, at_level, in_room, to_pcm16, with_noise
from .note_player import play_note
from .rendering import SAMPLE_RATE, RenderedClip, RenderedCorpus, package_folder, processors, write_clip
from .soundfont import SoundFont

INSTRUMENTS = {
    0: "piano",
    6: "harpsichord",
    11: "vibraphone",
    19: "church_organ",
    21: "accordion",
    24: "nylon_guitar",
    29: "overdriven_guitar",
    36: "slap_bass",
    40: "violin",
    45: "pizzicato_strings",
    52: "choir",
    56: "trumpet",
    66: "tenor_saxophone",
    71: "clarinet",
    73: "flute",
    104: "sitar",
}
TEST_PITCH_CLASSES = (1, 4, 6, 9)  # C♯ E F♯ A
VALID_PITCH_CLASSES = (3, 11)  # D♯ B
TRAIN_PITCH_CLASSES = (0, 2, 5, 7, 8, 10)  # C D F G G♯ A♯
KEYS = range(52, 76)
SECONDS = 2.0

# Twice the rate of the clips. Aliases of linear interpolation are then above their band, and resampling removes them.
_PLAYER_RATE = 32_000
_PROGRAMS = 128
_PITCH_CLASSES = {
    TRAIN: TRAIN_PITCH_CLASSES,
    VALID: VALID_PITCH_CLASSES,
    TEST: TEST_PITCH_CLASSES,
    UNLABELLED: TRAIN_PITCH_CLASSES,
}
_SOUNDFONT = ("pretty_midi", "TimGM6mb.sf2")
_SOUNDFONT_SHA256 = "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1"


class GmNotesCorpus(RenderedCorpus):
    """Notes of 16 instruments with labels, and of all 128 melodic programs without."""

    name = "gm_notes"
    version = 1
    package = "pretty_midi"

    def __init__(self, config: GmNotesConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def label_names(self) -> tuple[str, ...]:
        """The 16 instruments in the order of their programs."""
        return tuple(INSTRUMENTS.values())

    def jobs(self) -> tuple[str, Sequence[dict[str, Any]]]:
        """Return one job per processor, each with a share of the clips."""
        shares = processors()
        return f"{__name__}:render", [
            {"config": self.config.model_dump(mode="json"), "share": share, "shares": shares} for share in range(shares)
        ]

    def card(self) -> dict[str, Any]:
        """Describe the soundfont and its licence."""
        return {
            "source": "rendered from TimGM6mb.sf2 (Tim Brechbill) in the wheel of pretty_midi",
            "license": "soundfont: GPL-2.0 as its distributors (Debian: timgm6mb-soundfont) state, the wheel itself "
            "states a licence only for its code (MIT); neither soundfont nor clips are distributed with Ossicle",
            "version": self.version,
        }


@dataclass(frozen=True)
class _Plan:
    split: str
    program: int
    number: int

    @property
    def label(self) -> str:
        return "" if self.split == UNLABELLED else INSTRUMENTS[self.program]

    def generator(self) -> np.random.Generator:
        split = list(_PITCH_CLASSES).index(self.split)
        return np.random.Generator(np.random.PCG64([GmNotesCorpus.version, split, self.program, self.number]))


def render(folder: Path, job: dict[str, Any]) -> list[RenderedClip]:
    """Render one share of the clips into `folder`.

    Raises:
        CorpusError: if the wheel contains a different soundfont from the one that defines this corpus
    """
    font = _load_soundfont()
    plans = list(_plans(GmNotesConfig(**job["config"])))
    return [_render_clip(folder, font, plan) for plan in plans[job["share"] :: job["shares"]]]


def _load_soundfont() -> SoundFont:
    package, file = _SOUNDFONT
    path = package_folder(package) / file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SOUNDFONT_SHA256:
        raise CorpusError(
            f"`{path}` is missing or is not the soundfont that defines `gm_notes` (SHA-256 {_SOUNDFONT_SHA256}); "
            "run `pip install --force-reinstall pretty_midi==0.2.11`."
        )
    return SoundFont(path)


def _plans(config: GmNotesConfig) -> Iterator[_Plan]:
    counts = {TRAIN: config.train_per_class, VALID: config.valid_per_class, TEST: config.test_per_class}
    for split, count in counts.items():
        yield from (_Plan(split, program, number) for program in INSTRUMENTS for number in range(count))
    yield from (_Plan(UNLABELLED, clip % _PROGRAMS, clip // _PROGRAMS) for clip in range(config.unlabelled))


def _render_clip(folder: Path, font: SoundFont, plan: _Plan) -> RenderedClip:
    rng = plan.generator()
    keys, dry = _play(rng, font, plan)
    room = in_room(
        rng,
        dry,
        SAMPLE_RATE,
        reverberation_seconds=rng.uniform(0.1, 0.6),
        wet_db=rng.uniform(-30.0, -10.0),
    )
    levelled = at_level(room, rng.uniform(-24.0, -3.0))
    noisy = with_noise(rng, levelled, snr_db=rng.uniform(10.0, 40.0), exponent=rng.uniform(1.0, 2.0))
    return write_clip(
        folder,
        to_pcm16(noisy),
        split=plan.split,
        label=plan.label,
        name=f"{plan.program:03d}-{plan.number:03d}",
        content=" ".join(map(str, keys)),
    )


def _play(rng: np.random.Generator, font: SoundFont, plan: _Plan) -> tuple[list[int], Waveform]:
    """Choose and play one or two notes. Returns their keys and the (S,) waveform at 16 kHz."""
    import soxr

    allowed = [key for key in KEYS if key % 12 in _PITCH_CLASSES[plan.split]]
    keys = [int(key) for key in rng.choice(allowed, size=rng.integers(1, 3), replace=False)]
    total = np.zeros(round(SECONDS * _PLAYER_RATE))
    for key in keys:
        onset = round(rng.uniform(0.0, 0.2) * _PLAYER_RATE)
        note = play_note(
            font,
            plan.program,
            key,
            int(rng.integers(40, 120)),
            held_seconds=rng.uniform(1.0, 1.8),
            seconds=SECONDS,
            sample_rate=_PLAYER_RATE,
        )
        total[onset:] += note[: total.size - onset]
    return keys, soxr.resample(total, _PLAYER_RATE, SAMPLE_RATE, quality="HQ")
