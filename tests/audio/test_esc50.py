"""ESC-50 in its real layout: folds, label order, counts, and error messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.esc50 import CLASSES, Esc50Corpus
from ossicle.audio.published_corpus_config import Esc50Config
from ossicle.core.errors import CorpusError

HEADER = "filename,fold,target,category,esc10,src_file,take"
ROWS = [
    "1-100032-A-0.wav,1,0,dog,True,100032,A",
    "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A",
    "2-104877-A-49.wav,2,49,hand_saw,False,104877,A",
    "3-100018-A-18.wav,3,18,toilet_flush,False,100018,A",
    "5-9032-A-0.wav,5,0,dog,True,9032,A",
]


def esc50(folder: Path, rows: list[str] = ROWS, *, header: str = HEADER) -> Path:
    """Write a corpus in the real layout. Its table has `rows`, and every recording exists."""
    (folder / "meta").mkdir(parents=True)
    (folder / "audio").mkdir()
    (folder / "meta" / "esc50.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "meta" / "esc50-human.xlsx").touch()
    for row in rows:
        soundfile.write(folder / "audio" / row.split(",")[0], np.full(4410, 0.1), 44100)
    return folder


def partial(folder: Path) -> Esc50Corpus:
    return Esc50Corpus(Esc50Config(path=folder, partial=True))


def test_the_official_numbers() -> None:
    expected = Esc50Corpus.expected

    assert expected["clips"] == 2000
    assert [expected[f"fold {fold}"] for fold in range(1, 6)] == [400] * 5
    assert [expected[f"class {name}"] for name in CLASSES] == [40] * 50
    assert (CLASSES[0], CLASSES[14], CLASSES[25], CLASSES[49]) == ("dog", "chirping_birds", "footsteps", "hand_saw")


def test_labels_are_targets_and_folds_are_official(tmp_path: Path) -> None:
    manifest = partial(esc50(tmp_path / "ESC-50-master")).manifest()

    assert manifest.label_names == CLASSES
    assert manifest.labels == [(0,), (14,), (49,), (18,), (0,)]
    assert manifest.folds.tolist() == [1, 1, 2, 3, 5]
    assert set(manifest.splits) == {"train"}
    assert manifest.paths[0] == "audio/1-100032-A-0.wav"
    assert manifest.frames.tolist() == [4410] * 5
    assert manifest.sample_rates.tolist() == [44100] * 5
    assert not manifest.multi_label


def test_the_fingerprint_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    here, there = partial(esc50(tmp_path / "here")), partial(esc50(tmp_path / "there"))

    assert here.manifest().fingerprint() == there.manifest().fingerprint()


def test_an_incomplete_corpus_is_refused_with_the_numbers(tmp_path: Path) -> None:
    esc50(tmp_path)

    message = (
        r"clips 5 of 2000, fold 1 2 of 400, fold 2 1 of 400, fold 3 1 of 400, fold 4 0 of 400, …\. Set `partial: true`"
    )
    with pytest.raises(CorpusError, match=message):
        Esc50Corpus(Esc50Config(path=tmp_path)).manifest()


def test_a_complete_corpus_passes_and_a_single_missing_clip_is_reported(tmp_path: Path) -> None:
    rows = [
        f"{fold}-{source}-A-{target}.wav,{fold},{target},{name},False,{source},A"
        for target, name in enumerate(CLASSES)
        for fold in range(1, 6)
        for source in range(8)
    ]
    (tmp_path / "meta").mkdir()
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    for row in rows:
        (tmp_path / "audio" / row.partition(",")[0]).touch()
    config = Esc50Config(path=tmp_path)
    assert Esc50Corpus(config).problems() == []

    (tmp_path / "audio" / "4-2-A-7.wav").unlink()

    (problem,) = Esc50Corpus(config).problems()
    assert "clips 1999 of 2000, fold 4 399 of 400, class insects 39 of 40; " in problem
    assert "listed but missing: 1, the first `audio/4-2-A-7.wav`" in problem


def test_the_card_lists_the_missing_clips(tmp_path: Path) -> None:
    esc50(tmp_path)
    (tmp_path / "audio" / "2-104877-A-49.wav").unlink()
    corpus = partial(tmp_path)

    card = corpus.card()

    assert len(corpus.manifest()) == 4
    assert card["counts"]["clips"] == {"present": 4, "expected": 2000}
    assert card["counts"]["fold 2"] == {"present": 0, "expected": 400}
    assert card["missing"] == 1
    assert card["first_missing"] == corpus.missing() == ["audio/2-104877-A-49.wav"]
    assert "CC BY-NC" in card["license"]
    assert card["source"] == "https://github.com/karolpiczak/ESC-50"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1-9-A-3.wav,1,3,cat,False,9,A", r":7: target 3 is `cat`, but in ESC-50 it is `cow`"),
        ("1-9-A-50.wav,1,50,cow,False,9,A", r":7: `target` is `50`; allowed: 0 to 49"),
        ("6-9-A-3.wav,6,3,cow,False,9,A", r":7: `fold` is `6`; allowed: 1 to 5"),
        ("5-9032-A-0.wav,5,0,dog,True,9032,A", r":7: `5-9032-A-0\.wav` is already listed at .*esc50\.csv:6"),
        ("1-9032-A-0.wav,2,0,dog,True,9032,A", r":7: `1-9032-A-0\.wav` does not match fold 2 and target 0"),
        ("1-9-A-3.wav,1,3,cow", r":7: 4 cells, but the header names 7 columns"),
    ],
)
def test_reports_the_line_of_a_wrong_row(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(CorpusError, match=r"esc50\.csv" + message):
        partial(esc50(tmp_path, [*ROWS, row])).manifest()


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"esc50\.csv:1: the columns are `filename,.*`, but must be `filename,fold"):
        partial(esc50(tmp_path, header=HEADER.replace("fold,target", "target,fold"))).manifest()


def test_reports_how_to_get_a_missing_folder_or_table(tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"ESC-50: the folder `.*gone` does not exist .*Download it from https://github"
    ):
        partial(tmp_path / "gone").manifest()
    with pytest.raises(
        CorpusError, match=r"meta/esc50\.csv` does not exist, so .*set `path` to the folder that contains"
    ):
        partial(tmp_path).manifest()


def test_lists_without_any_recording_are_an_error_even_with_partial(tmp_path: Path) -> None:
    esc50(tmp_path)
    for path in (tmp_path / "audio").iterdir():
        path.unlink()

    with pytest.raises(CorpusError, match=r"none of the listed clips is below .*first: `audio/1-100032-A-0\.wav`"):
        partial(tmp_path).manifest()
