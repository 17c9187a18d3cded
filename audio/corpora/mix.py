"""`mix`: the training clips of several corpora as one corpus to pre-train on.

Notable choices:

- Only clips of `train` and `unlabelled` are used, so validation and test clips of the corpora stay unseen.
- Clips have no labels, because the labels of different corpora mean different things.
- A share counts audio instead of clips, because the clips of one corpus can be much longer than those of another.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.build import build
from ...core.corpus import TRAIN, UNLABELLED, Corpus
from ...core.errors import CorpusError
from ...core.manifest import Labels, Manifest, text_column
from ..corpus_config import MixConfig


class MixCorpus(Corpus):
    """The training clips of several corpora, in the order of the configuration."""

    def __init__(self, config: MixConfig) -> None:
        self.config = config

    @cached_property
    def _corpora(self) -> list[Corpus]:
        return [build(member.corpus, Corpus) for member in self.config.corpora]

    @cached_property
    def _members(self) -> list[tuple[Manifest, npt.NDArray[np.int64]]]:
        """The manifest of each corpus, and the rows that are used."""
        listed = [corpus.manifest() for corpus in self._corpora]
        chosen = [(manifest, manifest.rows_in(TRAIN, UNLABELLED)) for manifest in listed]
        for member, (_, rows) in zip(self.config.corpora, chosen, strict=True):
            if not len(rows):
                name = member.corpus.display_name
                raise CorpusError(f"corpus `{name}` of the mix has no `train` or `unlabelled` clips: remove it")
        return chosen

    def prepare(self) -> None:
        for corpus in self._corpora:
            corpus.prepare()

    @property
    def is_ready(self) -> bool:
        return all(corpus.is_ready for corpus in self._corpora)

    def problems(self) -> list[str]:
        return [problem for corpus in self._corpora for problem in corpus.problems()]

    def card(self) -> dict[str, Any]:
        """List the cards of the corpora by their names."""
        names = (member.corpus.display_name for member in self.config.corpora)
        return {name: corpus.card() for name, corpus in zip(names, self._corpora, strict=True)}

    def manifest(self) -> Manifest:
        """List the clips.

        Raises:
            CorpusError: if a corpus is malformed or has no clips to train on
        """
        parts = [manifest.take(rows) for manifest, rows in self._members]
        root = Path(os.path.commonpath([manifest.root.absolute() for manifest in parts]))
        folders = [manifest.root.absolute().relative_to(root).as_posix() for manifest in parts]
        clips = sum(map(len, parts))
        return Manifest(
            root=root,
            paths=text_column(
                f"{folder}/{path}"
                for folder, manifest in zip(folders, parts, strict=True)
                for path in manifest.paths.tolist()
            ),
            frames=np.concatenate([manifest.frames for manifest in parts]),
            sample_rates=np.concatenate([manifest.sample_rates for manifest in parts]),
            splits=np.full(clips, UNLABELLED),
            labels=Labels.of([()] * clips),
            contents=np.concatenate([manifest.contents for manifest in parts]),
            weights=self._weights(parts),
        )

    def _weights(self, parts: list[Manifest]) -> npt.NDArray[np.float64]:
        """Weigh clips so that every corpus has its share of the audio. Empty without shares."""
        shares = [member.share for member in self.config.corpora]
        if all(share is None for share in shares):
            return np.empty(0)
        # Unreadable files have no length, and are not drawn.
        seconds = [max(float(manifest.seconds.sum()), 1e-9) for manifest in parts]
        return np.concatenate(
            [
                np.full(len(manifest), (share or 0.0) / total)
                for manifest, share, total in zip(parts, shares, seconds, strict=True)
            ]
        )

    def declared_seconds(self) -> npt.NDArray[np.float64] | None:
        declared = [corpus.declared_seconds() for corpus in self._corpora]
        if all(seconds is None for seconds in declared):
            return None
        return np.concatenate(
            [
                np.full(len(rows), np.nan) if seconds is None else seconds[rows]
                for seconds, (_, rows) in zip(declared, self._members, strict=True)
            ]
        )
