"""Find the existing artifacts of an experiment, without making anything. Needs no torch.

Notable choices:

- Corpora may be missing. The keys of stages that depend on a missing corpus are then None, and its labels are assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..core.catalog import Catalog
from ..core.choices import PartChoice
from ..core.corpora import Corpora
from ..core.display import Silent
from ..core.errors import CorpusError
from ..core.manifest import Manifest
from ..core.stages import Stage, stage_key
from ..core.store import Artifact, Store
from .subprocess_measure import placeholder_manifest

ASSUMED_CLASSES = 2
"""Assumed number of classes of a corpus whose labels are not known yet."""


@dataclass(frozen=True)
class LocatedStage:
    """A stage and its artifact.

    Attributes:
        key: content key of the stage; None if a corpus is not known
        artifact: artifact of an earlier run; None if there is none
    """

    stage: Stage
    key: str | None
    artifact: Artifact | None


def located(stages: Sequence[Stage], store: Store, corpora: Corpora, catalog: Catalog) -> Iterator[LocatedStage]:
    """Look up the artifacts of stages, inputs first.

    Args:
        catalog: the catalog with the kinds of the stages
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
    """Corpora that are read if they exist, and never prepared."""

    def __init__(self) -> None:
        super().__init__(Silent())
        self._unknown: dict[PartChoice, Manifest] = {}

    def manifest(self, choice: PartChoice) -> Manifest:
        """Return the manifest of a corpus, without clips if they cannot be listed."""
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
        """Return the fingerprint of the clips of a corpus.

        Raises:
            CorpusError: if the clips cannot be listed
        """
        self.manifest(choice)
        if choice in self._unknown:
            raise CorpusError(f"corpus `{choice.display_name}` is not known")
        return super().fingerprint(choice)
