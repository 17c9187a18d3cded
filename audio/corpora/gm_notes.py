"""`gm_notes`: classify which of 16 General MIDI instruments plays the one or two notes in a noisy room.

Two-second clips at 16 kHz, played from `TimGM6mb.sf2` inside the `pretty_midi` wheel.

Notable choices:

- Training, validation and test clips have disjoint pitch classes, so a classifier must separate timbre from pitch.
- The unlabelled clips use only the *training* pitch classes, so pre-training never sees notes of the test clips.
- Each clip has its own random seed, so a smaller configuration is a subset of a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..corpus_config import GmNotesConfig
from .rendering import RenderedCorpus, processors

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
        return f"{__name__}_clips:render", [
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
