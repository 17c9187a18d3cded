"""Plan and render the clips of `gm_notes`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.corpus import TEST, TRAIN, UNLABELLED, VALID
from ...core.errors import CorpusError
from ..corpus_config import GmNotesConfig
from .acoustics import Waveform, at_level, in_room, to_pcm16, with_noise
from .gm_notes import INSTRUMENTS, GmNotesCorpus
from .note_player import play_note
from .rendering import SAMPLE_RATE, RenderedClip, package_folder, write_clip
from .soundfont import SoundFont

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
