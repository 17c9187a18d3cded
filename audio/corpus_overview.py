"""The number of clips in each split and fold of a corpus, with and without labels. Importable without numpy.

`ossicle check` needs no more than these numbers. A corpus that has them without a manifest defines `overview`, as
rendered corpora do, so that checking does not import numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..core.corpus import SPLITS

if TYPE_CHECKING:
    from ..core.choices import PartChoice
    from ..core.corpora import Corpora
    from ..core.manifest import Manifest


@dataclass(frozen=True)
class CorpusOverview:
    """The clips of a corpus in numbers.

    Attributes:
        clips: maps split, fold (-1 for none) and whether a clip has labels to the number of such clips if above 0
        has_classes: whether the corpus names classes
    """

    clips: Mapping[tuple[str, int, bool], int]
    has_classes: bool

    @classmethod
    def of(cls, manifest: Manifest) -> CorpusOverview:
        """Count the clips of a manifest."""
        import numpy as np

        has_labels = manifest.labels.counts > 0
        clips: dict[tuple[str, int, bool], int] = {}
        for split in SPLITS:
            inside = manifest.splits == split
            for labelled in (False, True):
                folds, numbers = np.unique(manifest.folds[inside & (has_labels == labelled)], return_counts=True)
                clips |= {(split, fold, labelled): n for fold, n in zip(folds.tolist(), numbers.tolist(), strict=True)}
        return cls(clips, bool(manifest.label_names))

    @property
    def splits(self) -> list[str]:
        """The splits that have clips, in alphabetical order."""
        return sorted({split for split, _, _ in self.clips})

    def folds(self, *splits: str, labelled: bool = False) -> list[int]:
        """Return the folds of the clips in some splits, ascending.

        Args:
            labelled: whether to leave out clips without labels
        """
        chosen = {fold for split, fold, has_labels in self.clips if split in splits and (has_labels or not labelled)}
        return sorted(chosen - {-1})

    def has_labels(self, split: str) -> bool:
        """Return whether a clip of a split has labels."""
        return any(one == split and has_labels for one, _, has_labels in self.clips)


@runtime_checkable
class HasOverview(Protocol):
    """A corpus that counts its clips without making a manifest."""

    def overview(self) -> CorpusOverview:
        """Count the clips. The corpus is ready."""


class Overviews:
    """The overviews of the corpora of an experiment, each made once.

    Attributes:
        corpora: the corpora and their manifests
    """

    def __init__(self, corpora: Corpora) -> None:
        self.corpora = corpora
        self._made: dict[PartChoice, CorpusOverview] = {}

    def of(self, choice: PartChoice) -> CorpusOverview:
        """Return the overview of a corpus, which is prepared if it is not ready.

        Raises:
            CorpusError: if it cannot be read
        """
        if choice not in self._made:
            corpus = self.corpora.corpus(choice)
            if isinstance(corpus, HasOverview) and corpus.is_ready:
                self._made[choice] = corpus.overview()
            else:
                self._made[choice] = CorpusOverview.of(self.corpora.manifest(choice))
        return self._made[choice]
