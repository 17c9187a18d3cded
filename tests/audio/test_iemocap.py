"""IEMOCAP in its real layout: which turns count, their labels, and error messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.iemocap import IemocapCorpus
from ossicle.audio.published_corpus_config import IemocapConfig
from ossicle.core.errors import CorpusError

IMPROVISED = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes0{n}F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-F1:\tNeutral;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-F1:\tval 3; act 2; dom  1;\t(mildly aggravated but staying polite, attitude)

[10.0100 - 11.3925]\tSes0{n}F_impro01_F001\texc\t[2.5000, 2.5000, 2.5000]
C-E2:\tExcited; Happiness;\t()

[14.8872 - 18.0175]\tSes0{n}F_impro01_M002\txxx\t[2.5000, 3.0000, 3.0000]
C-E2:\tNeutral;\t()
C-E3:\tFrustration;\t([angry] caf\xe9)

[19.2900 - 20.7875]\tSes0{n}F_impro01_M003\thap\t[2.5000, 3.0000, 3.0000]
"""
SCRIPTED = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[0 - 1.5]\tSes0{n}M_script01_1b_FXX0\tsad\t[2.0, 3.0, 3.5]
C-E1:\tSadness;\t()

[21.3257 - 24.7400]\tSes0{n}M_script01_1b_M000\tang\t[2.0000, 3.0000, 3.5000]

[25.0000 - 26.0000]\tSes0{n}M_script01_1b_M001\tfru\t[2.0000, 3.0000, 3.5000]
"""


def iemocap(root: Path, sessions: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Path:
    """Write a corpus in the real layout with one improvised and one scripted dialogue in each session."""
    for n in sessions:
        judged, wavs = root / f"Session{n}/dialog/EmoEvaluation", root / f"Session{n}/sentences/wav"
        for folder in ("Attribute", "Categorical", "Self-evaluation"):
            (judged / folder).mkdir(parents=True)
        (judged / "Categorical" / f"Ses0{n}F_impro01_e2_cat.txt").write_text(f"Ses0{n}F_impro01_F000 :Neutral; ()\n")
        (judged / f"._Ses0{n}F_impro01.txt").write_bytes(b"\x00\x05[")
        for dialogue, text in ((f"Ses0{n}F_impro01", IMPROVISED), (f"Ses0{n}M_script01_1b", SCRIPTED)):
            filled = text.replace("{n}", str(n))
            (judged / f"{dialogue}.txt").write_text(filled, encoding="latin-1")
            (wavs / dialogue).mkdir(parents=True)
            for turn in filled.split("\t"):
                if turn.startswith(dialogue):
                    soundfile.write(wavs / dialogue / f"{turn}.wav", np.full(1600, 0.1), 16000)
    return root


def partial(folder: Path) -> IemocapCorpus:
    return IemocapCorpus(IemocapConfig(path=folder, partial=True))


def test_the_official_numbers() -> None:
    expected = IemocapCorpus.expected

    assert expected["clips"] == 5531
    assert [expected[name] for name in ("neutral", "happy", "sad", "angry")] == [1708, 1636, 1084, 1103]
    assert [expected[f"session {number}"] for number in range(1, 6)] == [1085, 1023, 1151, 1031, 1241]
    assert sum(expected[name] for name in ("neutral", "happy", "sad", "angry")) == 5531


def test_four_emotions_with_excitement_as_happiness_and_sessions_as_folds(tmp_path: Path) -> None:
    manifest = partial(iemocap(tmp_path / "IEMOCAP_full_release")).manifest()

    assert manifest.label_names == ("neutral", "happy", "angry", "sad")
    assert manifest.folds.tolist() == [1] * 5 + [2] * 5 + [3] * 5 + [4] * 5 + [5] * 5
    assert manifest.labels[:5] == [(0,), (1,), (1,), (3,), (2,)]
    assert manifest.paths[:5].tolist() == [
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav",
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M003.wav",
        "Session1/sentences/wav/Ses01M_script01_1b/Ses01M_script01_1b_FXX0.wav",
        "Session1/sentences/wav/Ses01M_script01_1b/Ses01M_script01_1b_M000.wav",
    ]
    assert set(manifest.splits) == {"train"}
    assert set(manifest.frames) == {1600}


def test_an_incomplete_corpus_is_refused_with_the_numbers(tmp_path: Path) -> None:
    iemocap(tmp_path, sessions=(1, 2, 3, 4))

    message = (
        r"clips 20 of 5531, neutral 4 of 1708, happy 8 of 1636, angry 4 of 1103, sad 4 of 1084, …\. Set `partial: true`"
    )
    with pytest.raises(CorpusError, match=message):
        IemocapCorpus(IemocapConfig(path=tmp_path)).manifest()


def test_the_card_lists_the_missing_clips(tmp_path: Path) -> None:
    iemocap(tmp_path, sessions=(1, 2))
    gone = "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F001.wav"
    (tmp_path / gone).unlink()
    # A clip with another emotion is not used, so it is not reported as missing.
    (tmp_path / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_M002.wav").unlink()

    card = partial(tmp_path).card()

    assert card["counts"]["happy"] == {"present": 3, "expected": 1636}
    assert card["counts"]["session 3"] == {"present": 0, "expected": 1151}
    assert card["first_missing"] == [gone]
    assert card["source"] == "https://sail.usc.edu/iemocap/"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "[1.0 - 2.0] Ses01F_impro01_F009 neu [2.5, 2.5, 2.5]",
            r":17: `\[1\.0 - 2\.0\] Ses.*` is not a turn; expected",
        ),
        (
            "[1.0 - 2.0]\tSes01F_impro01_F009\tjoy\t[2.5, 2.5, 2.5]",
            r":17: unknown emotion `joy`; allowed: ang, dis, ",
        ),
        (
            "[1.0 - 2.0]\tSes01F_impro01_F000\tsad\t[2.5, 2.5, 2.5]",
            r":17: `Ses01F_impro01_F000` is already rated .*:3",
        ),
    ],
)
def test_reports_the_place_of_a_wrong_line(tmp_path: Path, line: str, message: str) -> None:
    iemocap(tmp_path, sessions=(1,))
    with (tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt").open("a") as file:
        file.write(line + "\n")

    with pytest.raises(CorpusError, match=r"Ses01F_impro01\.txt" + message):
        partial(tmp_path).manifest()


def test_reports_how_to_get_the_corpus_if_the_folder_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"IEMOCAP: the folder `.*gone` does not exist .*Request it from its owners .*release"
    ):
        partial(tmp_path / "gone").manifest()
    with pytest.raises(CorpusError, match=r"no `Session\*/dialog/EmoEvaluation/\*\.txt` below .*`Session1` to `Se"):
        partial(tmp_path).manifest()


def test_named_pipes_among_tables_and_recordings_are_left_out(pipe: Path, tmp_path: Path) -> None:
    corpus = partial(iemocap(tmp_path / "IEMOCAP_full_release", sessions=(1,)))
    session = tmp_path / "IEMOCAP_full_release" / "Session1"
    (session / "dialog/EmoEvaluation/pipe.txt").symlink_to(pipe)
    recording = session / "sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    recording.unlink()
    recording.symlink_to(pipe)

    assert str(recording.relative_to(corpus.path)) in corpus.missing()
    assert len(corpus.manifest()) == 4
