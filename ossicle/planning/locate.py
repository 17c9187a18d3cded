"""What of an experiment is made already, found without making anything. Needs no torch.

Notable choices: corpora need not be there; what depends on one that is not (its stages' keys, its labels) is left open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..core.catalog import Catalog
from ..core.choices import PartChoice
from ..core.corpora import Corpora
from ..core.corpus import Manifest
from ..core.display import Silent
from ..core.errors import CorpusError
from ..core.stages import Stage, stage_key
from ..core.store import Artifact, Store
from .subprocess_measure import placeholder_manifest

ASSUMED_CLASSES = 2
"""Of a corpus whose labels are not known yet."""


@dataclass(frozen=True)
class LocatedStage:
    """A stage, and where its artifact is.

    Attributes:
        key: its content key; None where a corpus is not known
        artifact: what an earlier run made
    """

    stage: Stage
    key: str | None
    artifact: Artifact | None


def located(stages: Sequence[Stage], store: Store, corpora: Corpora, catalog: Catalog) -> Iterator[LocatedStage]:
    """Look stages up, inputs first.

    Args:
        catalog: where their kinds are registered
    """
    keys: dict[str, str | None] = {}
    for stage in stages:
        inputs = {role: keys[source] for role, source in stage.inputs.items()}
        known = {role: key for role, key in inputs.items() if key is not None}
        key = None
        if len(known) == len(inputs):
            with suppress(CorpusError):
                key = stage_key(stage, known, origin=catalog.origin_of(stage), corpus_fingerprint=corpora.fingerprint)
        keys[stage.name] = key
        yield LocatedStage(stage, key, store.find(stage.kind, key) if key else None)


class KnownCorpora(Corpora):
    """Corpora that are read where they are there, and never prepared."""

    def __init__(self) -> None:
        super().__init__(Silent())
        self._unknown: dict[PartChoice, Manifest] = {}

    def manifest(self, choice: PartChoice) -> Manifest:
        """Its clips, or none where they cannot be listed."""
        if choice in self._unknown:
            return self._unknown[choice]
        corpus = self.corpus(choice)
        try:
            if corpus.is_ready and not corpus.problems():
                return super().manifest(choice)
        except CorpusError:
            pass
        multi_label = bool(getattr(corpus, "multi_label", False))
        return self._unknown.setdefault(choice, placeholder_manifest(ASSUMED_CLASSES, multi_label=multi_label))

    def fingerprint(self, choice: PartChoice) -> str:
        """The fingerprint of its clips.

        Raises:
            CorpusError: if they cannot be listed
        """
        self.manifest(choice)
        if choice in self._unknown:
            raise CorpusError(f"corpus `{choice.display_name}` is not known")
        return super().fingerprint(choice)
