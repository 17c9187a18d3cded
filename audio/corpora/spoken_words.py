"""`spoken_words`: classify which of 20 words an unknown voice says in noise.

One-second clips at 16 kHz, spoken by the eSpeak NG inside the `espeakng-loader` wheel: every word by each of 92 voices.

Notable choices:

- A voice is one of eSpeak's variants with one of six English accents, which are assigned in turn.
- A voice is in only one split, so test voices are unknown to the classifier. Every split has every accent.
- One process speaks everything in a fixed order (see `espeak`), so the samples of a clip depend on the size of the
  configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.corpus import TEST, TRAIN, VALID
from ..corpus_config import SpokenWordsConfig
from .acoustics import Waveform, at_level, to_pcm16, with_noise
from .espeak import PACKAGE, Speaker, voice_variants
from .rendering import SAMPLE_RATE, RenderedClip, RenderedCorpus, write_clip

WORDS = (
    *("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
)
# `en` is British English.
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbclan")
SECONDS = 1.0

_VALID_SHARE, _TEST_SHARE = 12 / 92, 24 / 92
_EDGE_DB = -40.0


@dataclass(frozen=True)
class Voice:
    """A voice variant with its accent, and the split of its clips."""

    variant: str
    accent: str
    split: str


class SpokenWordsCorpus(RenderedCorpus):
    """Words spoken by synthetic voices in noise."""

    name = "spoken_words"
    version = 1
    package = PACKAGE

    def __init__(self, config: SpokenWordsConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def label_names(self) -> tuple[str, ...]:
        """The words."""
        return WORDS[: self.config.words]

    def jobs(self) -> tuple[str, Sequence[dict[str, Any]]]:
        """Return a single job, because the samples depend on eSpeak's state and so on the order of words."""
        return f"{__name__}:render", [self.config.model_dump(mode="json")]

    def card(self) -> dict[str, Any]:
        """Describe the synthesizer and its licence."""
        return {
            "source": "spoken by eSpeak NG (the library in the wheel of espeakng-loader)",
            "license": "eSpeak NG: GPL-3.0-or-later; neither library nor clips are distributed with Ossicle",
            "version": self.version,
        }


def choose_voices(variants: Sequence[str], count: int) -> list[Voice]:
    """Draw `count` voices, and assign accents in turn and splits, so that each split has a similar mix of accents."""
    drawn = np.random.Generator(np.random.PCG64(SpokenWordsCorpus.version)).permutation(np.array(sorted(variants)))
    tests, valids = round(count * _TEST_SHARE), round(count * _VALID_SHARE)
    splits = [TEST] * tests + [VALID] * valids + [TRAIN] * (count - tests - valids)
    return [
        Voice(str(variant), ACCENTS[number % len(ACCENTS)], split)
        for number, (variant, split) in enumerate(zip(drawn[:count], splits, strict=True))
    ]


def render(folder: Path, job: dict[str, Any]) -> list[RenderedClip]:
    """Write every word spoken by every voice to `folder`.

    Raises:
        CorpusError: if eSpeak NG does not start or lacks a voice
    """
    return list(_render_clips(folder, SpokenWordsConfig(**job)))


def _render_clips(folder: Path, config: SpokenWordsConfig) -> Iterator[RenderedClip]:
    speaker = Speaker()
    for number, voice in enumerate(choose_voices(voice_variants(), config.voices)):
        for word_number, word in enumerate(WORDS[: config.words]):
            rng = np.random.Generator(np.random.PCG64([SpokenWordsCorpus.version, number, word_number]))
            speaker.choose(voice.accent, voice.variant, words_per_minute=int(rng.integers(140, 200)))
            yield write_clip(
                folder,
                to_pcm16(_clip(rng, speaker.say(word), speaker.sample_rate)),
                split=voice.split,
                label=word,
                name=f"{number:02d}",
                content=f"{voice.accent}+{voice.variant}",
            )


def _clip(rng: np.random.Generator, speech: Waveform, sample_rate: int) -> Waveform:
    """Place (S,) speech at a random position, level and noise level in a clip of one second at 16 kHz."""
    import soxr

    word = _without_edges(soxr.resample(speech, sample_rate, SAMPLE_RATE, quality="HQ"))
    clip = np.zeros(round(SECONDS * SAMPLE_RATE))
    word = word[: clip.size]
    onset = int(rng.integers(0, clip.size - word.size + 1))
    clip[onset : onset + word.size] = word
    levelled = at_level(clip, rng.uniform(-20.0, -3.0))
    return with_noise(rng, levelled, snr_db=rng.uniform(0.0, 25.0), exponent=rng.uniform(0.0, 2.0))


def _without_edges(speech: Waveform) -> Waveform:
    """Remove the near-silence before and after (S,) speech."""
    loud = np.flatnonzero(np.abs(speech) > np.abs(speech).max(initial=0.0) * 10 ** (_EDGE_DB / 20))
    return speech[loud[0] : loud[-1] + 1] if loud.size else speech
