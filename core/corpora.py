"""The corpora that an experiment names, each read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .build import build
from .choices import PartChoice
from .corpus import Corpus
from .display import Display

if TYPE_CHECKING:
    from .manifest import Manifest


class Corpora:
    """The manifests of the corpora in use, each read once."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._manifests: dict[PartChoice, Manifest] = {}
        self._fingerprints: dict[PartChoice, str] = {}

    def corpus(self, choice: PartChoice) -> Corpus:
        return build(choice, Corpus)

    def manifest(self, choice: PartChoice) -> Manifest:
        """Prepare a corpus and list its clips.

        Raises:
            CorpusError: if it cannot be read
        """
        if choice not in self._manifests:
            self._display.note(f"reading corpus {choice.name}")
            corpus = self.corpus(choice)
            corpus.prepare()
            self._manifests[choice] = corpus.manifest()
        return self._manifests[choice]

    def fingerprint(self, choice: PartChoice) -> str:
        if choice not in self._fingerprints:
            self._fingerprints[choice] = self.manifest(choice).fingerprint()
        return self._fingerprints[choice]
