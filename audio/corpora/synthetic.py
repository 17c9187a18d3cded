"""`synthetic`: seeded tones in noise, for trials that need a corpus of a given length, labels and size.

Each class is a pitch, so training can learn something. The task is too easy to compare encoders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.corpus import SPLITS, UNLABELLED
from ...core.manifest import Labels, Manifest
from ..corpus_config import SyntheticConfig
from .acoustics import Waveform, at_level, to_pcm16, with_noise
from .rendering import SAMPLE_RATE, RenderedClip, RenderedCorpus, write_clip

_LOWEST_HZ, _OCTAVES = 150.0, 5.0


class SyntheticCorpus(RenderedCorpus):
    """Tones in noise, with the same number of clips of each class in every labelled split."""

    name = "synthetic"
    version = 1
    package = "numpy"

    def __init__(self, config: SyntheticConfig) -> None:
        super().__init__(config)
        self.config = config

    @property
    def label_names(self) -> tuple[str, ...]:
        """`tone 0` to the last one, in ascending pitch."""
        return tuple(f"tone {number}" for number in range(self.config.classes))

    @property
    def folder(self) -> Path:
        """The folder of the rendered set, below the configured path if there is one, else in the cache."""
        cached = super().folder
        return self.config.path / cached.name if self.config.path else cached

    def jobs(self) -> tuple[str, Sequence[dict[str, Any]]]:
        """Return a single job."""
        return f"{__name__}:render", [self.config.model_dump(mode="json")]

    def manifest(self) -> Manifest:
        """List the clips, after rendering them if necessary."""
        listed = super().manifest()
        if not self.config.multi_label:
            return listed
        labels = [tuple(map(int, content.split())) for content in self.contents()]
        return replace(listed, labels=Labels.of(labels), multi_label=True)

    def card(self) -> dict[str, Any]:
        """Describe that the clips are synthetic."""
        return {"source": "drawn from a seed", "license": "nobody's", "version": self.version}


def render(folder: Path, job: dict[str, Any]) -> list[RenderedClip]:
    """Render the clips into `folder`."""
    return list(_render_clips(folder, SyntheticConfig.model_validate(job, strict=False)))


def _render_clips(folder: Path, config: SyntheticConfig) -> Iterator[RenderedClip]:
    for split_number, split in enumerate(SPLITS):
        for number in range(config.classes * config.clips_per_class):
            rng = np.random.Generator(np.random.PCG64([SyntheticCorpus.version, config.seed, split_number, number]))
            classes = _classes(rng, number, config)
            yield write_clip(
                folder,
                to_pcm16(_clip(rng, classes, config)),
                split=split,
                # The labels of a multi-label clip are in its content.
                label="" if split == UNLABELLED or config.multi_label else f"tone {classes[0]}",
                name=f"{number:04d}",
                content="" if split == UNLABELLED else " ".join(map(str, classes)),
            )


def _classes(rng: np.random.Generator, number: int, config: SyntheticConfig) -> list[int]:
    """Choose the tones of a clip, ascending: one, or in every other clip of a multi-label corpus two."""
    own = number % config.classes
    if not config.multi_label or number // config.classes % 2 or config.classes == 1:
        return [own]
    return sorted({own, (own + int(rng.integers(1, config.classes))) % config.classes})


def _clip(rng: np.random.Generator, classes: Sequence[int], config: SyntheticConfig) -> Waveform:
    """Synthesize a clip: (S,), one tone per class with random detuning and amplitude modulation, in noise."""
    time = np.arange(round(config.seconds * SAMPLE_RATE)) / SAMPLE_RATE
    total = np.zeros(time.size)
    for number in classes:
        hertz = _LOWEST_HZ * 2 ** (_OCTAVES * number / config.classes) * rng.uniform(0.98, 1.02)
        swell = 1.0 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.5, 3.0) * time + rng.random()))
        total += swell * np.sin(2 * np.pi * (hertz * time + rng.random()))
    levelled = at_level(total, rng.uniform(-20.0, -6.0))
    return with_noise(rng, levelled, snr_db=rng.uniform(0.0, 20.0), exponent=rng.uniform(0.0, 1.0))
