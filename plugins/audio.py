"""The built-in corpora and front end, and the survey of a corpus."""

from __future__ import annotations

from ossicle.audio.corpus_config import (
    CsvConfig,
    FolderConfig,
    GmNotesConfig,
    MixConfig,
    SpokenWordsConfig,
    SyntheticConfig,
)
from ossicle.audio.front_end_config import KaldiFbankConfig
from ossicle.audio.published_corpus_config import (
    AudioSet2mConfig,
    AudioSet20kConfig,
    Esc50Config,
    IemocapConfig,
    SpeechCommandsV1Config,
    SpeechCommandsV2Config,
)
from ossicle.audio.stage_specs import SurveyStage
from ossicle.core.catalog import Catalog
from ossicle.core.hooks import hookimpl


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the parts in the folder `audio`."""
    corpora = "ossicle.audio.corpora"
    catalog.add("corpus", "folder", f"{corpora}.folder:FolderCorpus", config=FolderConfig)
    catalog.add("corpus", "csv", f"{corpora}.table:CsvCorpus", config=CsvConfig)
    catalog.add("corpus", "mix", f"{corpora}.mix:MixCorpus", config=MixConfig)
    catalog.add("corpus", "gm_notes", f"{corpora}.gm_notes:GmNotesCorpus", config=GmNotesConfig)
    catalog.add("corpus", "spoken_words", f"{corpora}.spoken_words:SpokenWordsCorpus", config=SpokenWordsConfig)
    catalog.add("corpus", "synthetic", f"{corpora}.synthetic:SyntheticCorpus", config=SyntheticConfig)
    catalog.add("corpus", "audioset20k", f"{corpora}.audioset:AudioSet20kCorpus", config=AudioSet20kConfig)
    catalog.add("corpus", "audioset2m", f"{corpora}.audioset:AudioSet2mCorpus", config=AudioSet2mConfig)
    catalog.add("corpus", "esc50", f"{corpora}.esc50:Esc50Corpus", config=Esc50Config)
    speech_commands = f"{corpora}.speech_commands"
    v1, v2 = f"{speech_commands}:SpeechCommandsV1Corpus", f"{speech_commands}:SpeechCommandsV2Corpus"
    catalog.add("corpus", "speech_commands_v1", v1, config=SpeechCommandsV1Config)
    catalog.add("corpus", "speech_commands_v2", v2, config=SpeechCommandsV2Config)
    catalog.add("corpus", "iemocap", f"{corpora}.iemocap:IemocapCorpus", config=IemocapConfig)
    catalog.add("front_end", "kaldi_fbank", "ossicle.audio.kaldi_fbank:KaldiFbank", config=KaldiFbankConfig)
    catalog.add_stage(SurveyStage)
