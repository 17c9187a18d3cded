"""A corpus from a table of clips: columns, errors with their lines, and two real data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.table import CsvCorpus
from ossicle.audio.corpus_config import CsvConfig
from ossicle.core.errors import CorpusError


def corpus(folder: Path, text: str, **settings: Any) -> CsvCorpus:
    (folder / "clips.csv").write_text(text, encoding="utf-8")
    for name in "abc":
        soundfile.write(folder / f"{name}.wav", np.zeros(800), 8000)
    return CsvCorpus(CsvConfig(path=folder / "clips.csv", **settings))


def test_reads_labels_splits_and_folds(tmp_path: Path) -> None:
    text = "path,kind,split,fold\nb.wav,dog,train,1\na.wav,cat,Validation,2\nc.wav,,unlabelled,\n"

    manifest = corpus(tmp_path, text, label_column="kind").manifest()

    assert list(manifest.paths) == ["b.wav", "a.wav", "c.wav"]
    assert manifest.label_names == ("cat", "dog")
    assert manifest.labels == [(1,), (0,), ()]
    assert list(manifest.splits) == ["train", "valid", "unlabelled"]
    assert manifest.folds.tolist() == [1, 2, -1]
    assert manifest.frames.tolist() == [800, 800, 800]
    assert not manifest.multi_label


def test_split_and_fold_columns_are_optional(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, "path\na.wav\n").manifest()

    assert list(manifest.splits) == ["train"]
    assert manifest.folds.tolist() == [-1]


def test_paths_may_be_absolute(tmp_path: Path) -> None:
    manifest = corpus(tmp_path, f"path\n{tmp_path}/a.wav\n").manifest()

    assert manifest.frames.tolist() == [800]
    assert manifest.path(0).is_file()


def test_draws_validation_clips_only_from_training_clips(tmp_path: Path) -> None:
    rows = [f"clip{number}.wav,{'test' if number % 3 == 0 else 'train'}" for number in range(300)]
    corpus(tmp_path, "path,split\n" + "\n".join(rows) + "\n")
    config = CsvConfig(path=tmp_path / "clips.csv", root=tmp_path, valid_share=0.25)

    splits = CsvCorpus(config)._table.splits

    assert [split == "test" for split in splits] == [number % 3 == 0 for number in range(300)]
    assert 30 <= splits.count("valid") <= 70
    assert CsvCorpus(config.model_copy(update={"split_seed": 1}))._table.splits != splits


def test_a_table_with_validation_clips_draws_none(tmp_path: Path) -> None:
    made = corpus(tmp_path, "path,split\na.wav,train\nb.wav,valid\n", valid_share=0.1)

    with pytest.raises(CorpusError, match=r"`valid_share` is set, but .* already has validation clips; remove it"):
        made.manifest()


def test_reads_several_labels_in_the_order_given(tmp_path: Path) -> None:
    text = "path,tags\na.wav,rain; wind\nb.wav,wind\n"

    manifest = corpus(tmp_path, text, labels_column="tags", label_names=("wind", "rain", "sun")).manifest()

    assert manifest.multi_label
    assert manifest.labels == [(1, 0), (0,)]


def test_reads_declared_durations(tmp_path: Path) -> None:
    declared = corpus(tmp_path, "path,length\na.wav,0.5\nb.wav,\n", duration_column="length").declared_seconds()

    np.testing.assert_array_equal(declared, [0.5, np.nan])


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("file,label\na.wav,x\n", {"path_column": "fille"}, r"clips\.csv:1: .*`fille`.*mean `file`.*are: file, label"),
        ("path\na.wav\n", {"split_column": "fold"}, r":1: there is no column `fold` \(`split_column`\)"),
        ("path,split\na.wav,train\nb.wav,trian\n", {}, r"clips\.csv:3: unknown split `trian`; allowed: train"),
        ("path,label\na.wav,x\nb.wav,\n", {"label_column": "label"}, r":3: empty label in `label`"),
        ("path,tags\na.wav,x;;y\n", {"labels_column": "tags"}, r":2: empty label in `tags`"),
        (
            "path,label\na.wav,dgo\n",
            {"label_column": "label", "label_names": ("dog",)},
            r":2: the label `dgo` is not among `label_names`\. Did you mean `dog`",
        ),
        ("path,fold\na.wav,one\n", {}, r":2: `fold` is `one`, but must be a whole number"),
        ("path\na.wav\na.wav\n", {}, r":3: `a\.wav` is already listed on line 2"),
        ("path,split\na.wav\n", {}, r":2: 1 cells, but the header names 2"),
        ("path\n", {}, r"lists no recordings"),
        ("path\nx/a.wav\n", {}, r"none of the first 1 recordings .*set `root`"),
        ("path,l\na.wav,x\n", {"label_column": "l", "labels_column": "l"}, r"both given"),
    ],
)
def test_errors_name_the_line_and_the_remedy(tmp_path: Path, text: str, settings: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        corpus(tmp_path, text, **settings).manifest()


def test_reports_several_problems_at_once_but_not_all(tmp_path: Path) -> None:
    rows = "".join(f"{number}.wav,nope\n" for number in range(30))

    problems = corpus(tmp_path, "path,split\n" + rows).problems()

    assert len(problems) == 6
    assert problems[-1] == "… and 25 more."


def test_reports_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"gone\.csv` does not exist"):
        CsvCorpus(CsvConfig(path=tmp_path / "gone.csv")).manifest()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "clips", "labels"), [("fsdd_digits", 3000, 10), ("philharmonia_notes", 1257, None)])
def test_reads_real_tables(shared_data: Path, name: str, clips: int, labels: int | None) -> None:
    table = shared_data / name / "metadata.csv"

    manifest = CsvCorpus(CsvConfig(path=table, label_column="label", duration_column="duration_s")).manifest()

    assert len(manifest) == clips
    assert labels is None or len(manifest.label_names) == labels
    assert (manifest.frames > 0).all()
    assert manifest.rows_in("train").size > manifest.rows_in("test").size > 0
