"""AudioSet in its real layout: finding recordings, the draw of validation clips, missing clips, and error messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.audioset import AudioSet2mCorpus, AudioSet20kCorpus, AudioSetCorpus
from ossicle.audio.published_corpus_config import AudioSet2mConfig, AudioSet20kConfig
from ossicle.core.errors import CorpusError

NAMES = ["Speech", "Male speech, man speaking", *[f"Sound {number}" for number in range(2, 527)]]
MIDS = ["/m/09x0r", "/m/05zppz", *[f"/t/dd{number:05d}" for number in range(2, 527)]]

BALANCED = [
    '--PJHxphWEs, 30.000, 40.000, "/m/05zppz,/t/dd00088"',
    'YtxQ-hQ1kfY, 50.000, 60.000, "/m/09x0r"',
    '_-abcdefghi, 0.000, 10.000, "/t/dd00526,/t/dd00526"',
]
UNBALANCED = ['zzzzzzzzzz0, 0.000, 10.000, "/t/dd00007"', 'zzzzzzzzzz1, 0.000, 8.500, "/t/dd00008"']
EVALUATION = ['-0RWZT-miFs, 420.000, 430.000, "/m/09x0r"', 'Y0123456789, 0.000, 10.000, "/t/dd00003"']


def write_list(folder: Path, name: str, rows: list[str], *, stated: int | None = None) -> None:
    count = len(rows) if stated is None else stated
    head = [
        "# Segments csv created Sun Mar  5 10:54:31 2017",
        f"# num_ytids={count}, num_segs={count}, num_unique_labels=527, num_positive_labels=52882",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    (folder / f"{name}_segments.csv").write_text("\n".join([*head, *rows]) + "\n")


def write_classes(folder: Path, mids: list[str] = MIDS) -> None:
    rows = [f'{number},{mid},"{name}"' for number, (mid, name) in enumerate(zip(mids, NAMES, strict=True))]
    (folder / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *rows]) + "\n")


def audioset(folder: Path, *recordings: str) -> Path:
    """Write the lists as distributed, and `recordings`."""
    write_classes(folder)
    for name, rows in (("balanced_train", BALANCED), ("unbalanced_train", UNBALANCED), ("eval", EVALUATION)):
        write_list(folder, name, rows)
    for path in recordings:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, np.full(3200, 0.1), 32000)
    return folder


ALL = (
    "audio/balanced_train_segments/Y--PJHxphWEs.wav",
    "audio/balanced_train_segments/YYtxQ-hQ1kfY.wav",
    "audio/bal_train/_-abcdefghi.flac",
    "audio/unbalanced_train_segments/unbalanced_train_segments_part00/zzzzzzzzzz0_0.000_10.000.wav",
    "audio/unbalanced_train_segments/unbalanced_train_segments_part01/zzzzzzzzzz1_0_8500.ogg",
    "audio/eval_segments/-0RWZT-miFs_420.wav",
    "audio/eval_segments/Y0123456789.wav",
)


def small(folder: Path, *, valid_share: float = 0.0) -> AudioSet20kCorpus:
    return AudioSet20kCorpus(AudioSet20kConfig(path=folder, valid_share=valid_share))


def test_the_official_numbers() -> None:
    assert AudioSet20kCorpus.expected == {"balanced_train": 22_160, "eval": 20_371}
    assert AudioSet2mCorpus.expected == {"balanced_train": 22_160, "unbalanced_train": 2_041_789, "eval": 20_371}
    assert sum(AudioSet2mCorpus.expected.values()) == 2_084_320


def test_finds_recordings_by_identifier_in_every_usual_name(tmp_path: Path) -> None:
    config = AudioSet2mConfig(path=audioset(tmp_path, *ALL), valid_share=0.0)

    manifest = AudioSet2mCorpus(config).manifest()

    assert manifest.paths.tolist() == list(ALL)
    assert manifest.splits.tolist() == ["train"] * 5 + ["test"] * 2
    assert manifest.multi_label
    assert manifest.labels == [(1, 88), (0,), (526,), (7,), (8,), (0,), (3,)]
    assert manifest.label_names == tuple(NAMES)
    assert set(manifest.sample_rates) == {32000}


def test_the_small_set_does_not_need_the_unbalanced_list(tmp_path: Path) -> None:
    audioset(tmp_path, *ALL)
    (tmp_path / "unbalanced_train_segments.csv").unlink()

    assert small(tmp_path).manifest().paths.tolist() == [*ALL[:3], *ALL[5:]]


def test_ignores_names_that_only_resemble_a_recording(tmp_path: Path) -> None:
    audioset(tmp_path, "a/XX--PJHxphWEs.wav", "a/._Y--PJHxphWEs.wav", "a/--PJHxphWEs_first.wav", "b/YtxQ-hQ1kfY.wav")
    (tmp_path / "a" / "--PJHxphWEs.txt").touch()
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "--PJHxphWEs.wav").touch()

    assert small(tmp_path).manifest().paths.tolist() == ["b/YtxQ-hQ1kfY.wav"]


def test_missing_clips_are_counted_and_listed_but_are_not_an_error(tmp_path: Path) -> None:
    corpus = small(audioset(tmp_path, ALL[1], ALL[5]))

    assert corpus.problems() == []
    assert len(corpus.manifest()) == 2
    assert corpus.missing() == ["--PJHxphWEs", "_-abcdefghi", "Y0123456789"]
    card = corpus.card()
    assert card["counts"]["balanced_train"] == {"present": 1, "expected": 22_160}
    assert card["counts"]["eval"] == {"present": 1, "expected": 20_371}
    assert card["missing"] == 3
    assert card["first_missing"] == corpus.missing()


def test_a_corpus_without_recordings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"AudioSet-20K: none of the 5 listed clips is below .*`YID\.wav`.*YouTube"):
        small(audioset(tmp_path)).manifest()


def test_validation_clips_are_drawn_by_identifier_independently_of_other_clips(tmp_path: Path) -> None:
    rows = [f'{number:011d}, 0.000, 10.000, "/m/09x0r"' for number in range(300)]
    audioset(tmp_path)
    write_list(tmp_path, "balanced_train", rows)
    for number in range(0, 300, 2):
        (tmp_path / f"{number:011d}.wav").touch()
    half = small(tmp_path, valid_share=0.2).manifest()
    for number in range(1, 300, 2):
        (tmp_path / f"Y{number:011d}.wav").touch()
    whole = small(tmp_path, valid_share=0.2).manifest()

    assert whole.rows_in("valid").size == pytest.approx(60, abs=20)
    assert whole.rows_in("valid", "train").size == 300
    drawn = set(whole.paths[whole.rows_in("valid")].tolist())
    assert set(half.paths[half.rows_in("valid")].tolist()) == {path for path in drawn if not path.startswith("Y")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('tooshort, 0.000, 10.000, "/m/09x0r"', r":7: `tooshort` is not a video identifier"),
        ('abcdefghijk, 0.000, 10.000, "/m/nope,/m/09x0r"', r":7: the labels `/m/nope` are not in class_labels"),
        ("abcdefghijk, 0.000, 10.000, /m/05zppz,/m/09x0r", r":7: 5 cells, but a segment has 4"),
        ('--PJHxphWEs, 30.000, 40.000, "/m/09x0r"', r":7: `--PJHxphWEs` is already listed at .*balanced_train.*:4"),
    ],
)
def test_reports_the_place_of_a_wrong_line(tmp_path: Path, row: str, message: str) -> None:
    audioset(tmp_path, *ALL)
    write_list(tmp_path, "balanced_train", [*BALANCED, row])

    with pytest.raises(CorpusError, match=r"balanced_train_segments\.csv" + message):
        small(tmp_path).manifest()


def test_reports_a_video_in_two_lists(tmp_path: Path) -> None:
    audioset(tmp_path, *ALL)
    write_list(tmp_path, "eval", [*EVALUATION, BALANCED[0]])

    with pytest.raises(CorpusError, match=r"eval_segments\.csv:6: `--PJHxphWEs` is already listed at .*balanced"):
        small(tmp_path).manifest()


def test_reports_a_truncated_list(tmp_path: Path) -> None:
    audioset(tmp_path, *ALL)
    write_list(tmp_path, "balanced_train", BALANCED, stated=22_160)

    with pytest.raises(CorpusError, match=r"states that it has 22160 segments, but has 3; download it again"):
        small(tmp_path).manifest()


def test_reports_classes_in_the_wrong_order_or_number(tmp_path: Path) -> None:
    audioset(tmp_path, *ALL)
    table = tmp_path / "class_labels_indices.csv"
    lines = table.read_text().splitlines()

    table.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(CorpusError, match=r"indices\.csv:2: expected `0,MID,NAME`, but found `1,/m/05zppz,Male"):
        small(tmp_path).manifest()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(CorpusError, match=r"lists 526 classes, but AudioSet has 527"):
        small(tmp_path).manifest()
    table.write_text("\n".join(lines[1:]))
    with pytest.raises(CorpusError, match=r":1: the columns are `0,/m/09x0r,Speech`, but must be `index,mid,display"):
        small(tmp_path).manifest()


@pytest.mark.parametrize("name", ["class_labels_indices.csv", "balanced_train_segments.csv", "eval_segments.csv"])
def test_reports_how_to_get_a_missing_list(tmp_path: Path, name: str) -> None:
    audioset(tmp_path, *ALL)
    (tmp_path / name).unlink()

    with pytest.raises(CorpusError, match=rf"{name}` does not exist.*https://research\.google\.com/audioset/download"):
        small(tmp_path).manifest()


def test_reports_a_missing_folder(tmp_path: Path) -> None:
    corpus: AudioSetCorpus = small(tmp_path / "gone")

    with pytest.raises(CorpusError, match=r"AudioSet-20K: the folder `.*gone` does not exist"):
        corpus.manifest()
    assert corpus.card()["source"].startswith("https://research.google.com/audioset")
