"""The built-in corpora and front end."""

from __future__ import annotations

from ossicle.audio.front_end_settings import KaldiFbankConfig
from ossicle.audio.settings import CsvConfig, FolderConfig, GmNotesConfig, SpokenWordsConfig
from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the parts of the room `audio`."""
    corpora = "ossicle.audio.corpora"
    catalog.add("corpus", "folder", f"{corpora}.folder:FolderCorpus", config=FolderConfig)
    catalog.add("corpus", "csv", f"{corpora}.table:CsvCorpus", config=CsvConfig)
    catalog.add("corpus", "gm_notes", f"{corpora}.gm_notes:GmNotesCorpus", config=GmNotesConfig)
    catalog.add("corpus", "spoken_words", f"{corpora}.spoken_words:SpokenWordsCorpus", config=SpokenWordsConfig)
    catalog.add("front_end", "kaldi_fbank", "ossicle.audio.kaldi_fbank:KaldiFbank", config=KaldiFbankConfig)
