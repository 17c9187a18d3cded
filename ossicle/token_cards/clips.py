"""Draw the recordings for a report card.

Notable choices:

- Clips are drawn without replacement from one split, with a seed.
- The test split is used only if it is given explicitly.
- If clips have one label each, clips without a label are skipped.
- A clip that cannot be read is replaced by the next one in the drawn order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..audio.decode import read_native, to_mono
from ..core.choices import PartChoice
from ..core.corpora import Corpora
from ..core.corpus import SPLITS, TRAIN, UNLABELLED, VALID
from ..core.display import Silent
from ..core.errors import CorpusError
from ..core.manifest import Manifest
from ..core.wording import choices

Wave = npt.NDArray[np.float32]

CROP_SECONDS = 10.0


@dataclass(frozen=True)
class DrawnClips:
    """Clips in the order in which they were drawn, and their waveforms.

    Attributes:
        corpus: display name of the corpus
        split: the split that the clips come from
        available: number of clips that could have been drawn
        manifest: manifest of only these clips
        waves: sample rate in Hz to the waveform (S,) of each clip, at most `CROP_SECONDS` long
        unreadable: error messages of drawn clips that could not be read
    """

    corpus: str
    split: str
    available: int
    manifest: Manifest
    waves: dict[int, list[Wave]]
    unreadable: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Total duration of the clips in seconds."""
        rate, waves = next(iter(self.waves.items()))
        return sum(map(len, waves)) / rate

    @property
    def classes(self) -> npt.NDArray[np.int64] | None:
        """(clips,) class of each clip; None with fewer than two classes, or if a clip can have several."""
        manifest = self.manifest
        if manifest.multi_label or not all(manifest.labels) or len({labels[0] for labels in manifest.labels}) < 2:
            return None
        return np.array([labels[0] for labels in manifest.labels], dtype=np.int64)

    @property
    def class_count(self) -> int:
        """The number of classes that occur."""
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
    """Draw clips from a corpus and decode them at every needed sample rate.

    Args:
        clips: number of clips; all clips of the split if it has fewer
        split: when None, the first of `valid`, `train` and `unlabelled` that has clips

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
                raise CorpusError(f"`{manifest.path(row)}` contains no sound")
        except CorpusError as error:
            unreadable.append(str(error))
            continue
        for sample_rate, decoded in waves.items():
            decoded.append(to_mono(samples, rate, sample_rate))
        kept.append(row)
        on_clip(len(kept))
    if not kept:
        raise CorpusError(f"none of the {len(rows)} `{split}` clips can be read; the first: {unreadable[0]}")
    drawn = manifest.take(np.array(kept, dtype=np.int64))
    return DrawnClips(choice.display_name, split, len(rows), drawn, waves, tuple(unreadable))


def _candidates(manifest: Manifest, split: str) -> npt.NDArray[np.int64]:
    """Find the rows of a split. If clips have one label each, only labelled rows, unless no row has a label.

    Raises:
        CorpusError: if the split has no clips
    """
    rows = manifest.rows_in(split)
    if not rows.size:
        filled = [name for name in SPLITS if manifest.rows_in(name).size]
        raise CorpusError(f"the corpus has no clip in its split `{split}`. {choices(split, filled)}")
    labelled = rows[manifest.labels.counts[rows] > 0]
    return labelled if labelled.size and not manifest.multi_label else rows
