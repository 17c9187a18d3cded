"""Draw the recordings that a report card looks at.

Notable choices: clips are drawn without replacement from one split, with a seed; the test split is taken only when it
is asked for by name; where clips carry one label each, those without are passed over; for what cannot be read the next
in the drawn order steps in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..audio.decode import read_native, to_mono
from ..core.choices import PartChoice
from ..core.corpora import Corpora
from ..core.corpus import SPLITS, TRAIN, UNLABELLED, VALID, Manifest
from ..core.display import Silent
from ..core.errors import CorpusError
from ..core.wording import choices

Wave = npt.NDArray[np.float32]

CROP_SECONDS = 10.0


@dataclass(frozen=True)
class DrawnClips:
    """Clips in the order in which they were drawn, and their sound.

    Attributes:
        corpus: what people call it
        split: where they come from
        available: clips that could have been drawn
        manifest: of these clips alone
        waves: sample rate in Hz to the waveform (S,) of each clip, at most `CROP_SECONDS` long
        unreadable: what was drawn and could not be read, and why
    """

    corpus: str
    split: str
    available: int
    manifest: Manifest
    waves: dict[int, list[Wave]]
    unreadable: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How much sound there is in all."""
        rate, waves = next(iter(self.waves.items()))
        return sum(map(len, waves)) / rate

    @property
    def classes(self) -> npt.NDArray[np.int64] | None:
        """(clips,) the class of each; None where there are fewer than two, or a clip can carry several."""
        manifest = self.manifest
        if manifest.multi_label or not all(manifest.labels) or len({labels[0] for labels in manifest.labels}) < 2:
            return None
        return np.array([labels[0] for labels in manifest.labels], dtype=np.int64)

    @property
    def class_count(self) -> int:
        """How many classes occur."""
        return 0 if self.classes is None else len(set(self.classes.tolist()))


def draw_clips(
    choice: PartChoice,
    *,
    clips: int,
    seed: int,
    sample_rates: Sequence[int],
    split: str | None = None,
    on_clip: Callable[[int], None] = lambda done: None,
) -> DrawnClips:
    """Draw clips from a corpus and decode them at every rate that is needed.

    Args:
        clips: how many; all of the split if it has fewer
        split: `valid` when None or, without such clips, `train`, or else `unlabelled`

    Raises:
        CorpusError: if the split has no clip that can be read
    """
    manifest = Corpora(Silent()).manifest(choice)
    split = split or next((name for name in (VALID, TRAIN, UNLABELLED) if manifest.rows_in(name).size), VALID)
    rows = _candidates(manifest, split)
    order = np.random.default_rng(seed).permutation(rows)
    waves: dict[int, list[Wave]] = {rate: [] for rate in sorted(set(sample_rates))}
    kept: list[int] = []
    unreadable: list[str] = []
    for row in order.tolist():
        if len(kept) == clips:
            break
        try:
            samples, rate = read_native(manifest.path(row), seconds=CROP_SECONDS)
            if not len(samples):
                raise CorpusError(f"`{manifest.path(row)}` holds no sound")
        except CorpusError as error:
            unreadable.append(str(error))
            continue
        for wanted, decoded in waves.items():
            decoded.append(to_mono(samples, rate, wanted))
        kept.append(row)
        on_clip(len(kept))
    if not kept:
        raise CorpusError(f"none of the {len(rows)} `{split}` clips can be read; the first: {unreadable[0]}")
    drawn = manifest.take(np.array(kept, dtype=np.int64))
    return DrawnClips(choice.display_name, split, len(rows), drawn, waves, tuple(unreadable))


def _candidates(manifest: Manifest, split: str) -> npt.NDArray[np.int64]:
    """The rows of a split; only the labelled ones where clips carry one label each and any does.

    Raises:
        CorpusError: if there are none
    """
    rows = manifest.rows_in(split)
    if not rows.size:
        filled = [name for name in SPLITS if manifest.rows_in(name).size]
        raise CorpusError(f"the corpus has no clip in its split `{split}`. {choices(split, filled)}")
    labelled = rows[manifest.labels.counts[rows] > 0]
    return labelled if labelled.size and not manifest.multi_label else rows
