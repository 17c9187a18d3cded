"""The numbers of clips that `ossicle check` needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ossicle.audio.corpora.gm_notes import GmNotesCorpus
from ossicle.audio.corpora.rendering import RenderedCorpus
from ossicle.audio.corpora.synthetic import SyntheticCorpus
from ossicle.audio.corpus_config import GmNotesConfig, SyntheticConfig
from ossicle.audio.corpus_overview import CorpusOverview
from ossicle.core.manifest import Labels, Manifest, text_column

TABLE = """path,split,label,frames,content
train/piano/a.wav,train,piano,32000,60
train/choir/b.wav,train,choir,32000,61
test/piano/c.wav,test,piano,32000,62
unlabelled/d.wav,unlabelled,,32000,63
"""


def test_the_clips_of_a_manifest_are_counted_by_split_fold_and_label() -> None:
    manifest = Manifest(
        root=Path(),
        paths=text_column("abcde"),
        frames=np.ones(5, np.int64),
        sample_rates=np.ones(5, np.int32),
        splits=np.array(["train", "train", "train", "valid", "unlabelled"]),
        labels=Labels.of([(0,), (), (1, 2), (1,), ()]),
        label_names=("x", "y", "z"),
        folds=np.array([2, 0, 2, 1, -1], np.int32),
    )
    found = CorpusOverview.of(manifest)
    assert found.clips == {
        ("train", 2, True): 2,
        ("train", 0, False): 1,
        ("valid", 1, True): 1,
        ("unlabelled", -1, False): 1,
    }
    assert found.has_classes
    assert found.splits == ["train", "unlabelled", "valid"]
    assert found.folds("train", "valid") == [0, 1, 2]
    assert found.folds("train", "unlabelled", labelled=True) == [2]
    assert [found.has_labels(split) for split in ("train", "unlabelled", "test")] == [True, False, False]


@pytest.mark.parametrize(
    "corpus",
    [
        GmNotesCorpus(GmNotesConfig()),
        SyntheticCorpus(SyntheticConfig()),
        SyntheticCorpus(SyntheticConfig(multi_label=True)),
    ],
    ids=["gm_notes", "synthetic", "several labels"],
)
def test_the_table_of_rendered_clips_has_the_same_numbers_as_their_manifest(
    corpus: RenderedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSSICLE_CACHE", str(tmp_path))
    if isinstance(corpus, GmNotesCorpus):
        corpus.folder.mkdir(parents=True)
        (corpus.folder / "manifest.csv").write_text(TABLE)
    corpus.prepare()
    assert corpus.overview() == CorpusOverview.of(corpus.manifest())
