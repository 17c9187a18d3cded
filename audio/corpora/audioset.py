"""AudioSet: clips of ten seconds from YouTube in 527 classes, several per clip (Gemmeke et al., 2017,
doi 10.1109/ICASSP.2017.7952261).

AudioSet-20K trains on the balanced segments, AudioSet-2M on the balanced and the unbalanced ones. Both are tested on
the evaluation segments. Lists and classes are read as distributed: `balanced_train_segments.csv`,
`unbalanced_train_segments.csv`, `eval_segments.csv` and `class_labels_indices.csv`, directly in the folder.

Notable choices:

- Recordings are found at any depth by the video's identifier in their name. Some tools write a `Y` before it, others
  write the times after it (`ID.wav`, `YID.flac`, `ID_30.000_40.000.wav`, `ID_30000_40000.mp3`). The names are indexed
  in one pass. If a video has several recordings, the first in the order of folders is used.
- Missing clips are not an error, because videos are removed from YouTube over time. The card states how many clips are
  present, because results on different copies may be on different clips. The official numbers are those of the lists.
  The download page states slightly larger numbers.
- A share of the training clips is drawn for validation, because AudioSet has no validation split. A hash of the video's
  identifier decides, so the draw does not depend on which clips are present.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from ...core.corpus import TEST, TRAIN
from ...core.errors import CorpusError
from ..published_corpus_config import AudioSet2mConfig, AudioSet20kConfig, AudioSetConfig
from .audio_files import audio_below
from .published import Listing, PublishedCorpus, listed_file, table_rows
from .splits import drawn_split

BALANCED, UNBALANCED, EVALUATION = "balanced_train", "unbalanced_train", "eval"
CLASSES = 527

_HEADER = ["index", "mid", "display_name"]
_CELLS = "identifier, start, end and the quoted labels"
_IDENTIFIER = re.compile(r"[\w-]{11}", re.ASCII)
_RECORDING = re.compile(r"Y?([\w-]{11})(?:_\d+(?:\.\d+)?){0,2}", re.ASCII)
_STATED = re.compile(r"num_segs=(\d+)")


class AudioSetCorpus(PublishedCorpus):
    """Base class of both sizes."""

    source = "https://research.google.com/audioset/download.html"
    license = "labels: CC BY 4.0; recordings: their uploaders'"
    remedy = (
        "Download the lists of segments and `class_labels_indices.csv` from "
        "https://research.google.com/audioset/download.html into a folder, fetch the recordings from YouTube into "
        "folders below it, and set `path` to that folder."
    )
    multi_label = True
    lists: ClassVar[Mapping[str, str]]
    """Maps the name of each list in use to its split."""

    def __init__(self, config: AudioSetConfig) -> None:
        super().__init__(config.path, partial=True)
        self.config = config

    def read(self) -> Listing:
        """Read the classes and the lists, and index the recordings."""
        names = read_classes(listed_file(self.path / "class_labels_indices.csv", self.remedy))
        listing = Listing(label_names=tuple(names.values()))
        ids = {mid: number for number, mid in enumerate(names)}
        recordings = recordings_below(self.path)
        first_lines: dict[str, str] = {}
        for name, split in self.lists.items():
            table = listed_file(self.path / f"{name}_segments.csv", self.remedy)
            for identifier, labels in _segments(table, ids, first_lines, listing.problems):
                path = recordings.get(identifier)
                if path is None:
                    listing.missing.append(identifier)
                else:
                    listing.add(path, labels, split=self._split(identifier, split), groups=(name,))
        return listing

    def nothing_there(self) -> str:
        """Describe that no recording was found, with the names that were searched for."""
        return (
            f"{self.title}: none of the {len(self.listing.missing)} listed clips is below `{self.path}` as `ID.wav`, "
            f"`YID.wav` or `ID_START_END.wav` (or .flac, .mp3, …). {self.remedy}"
        )

    def _split(self, identifier: str, split: str) -> str:
        if split != TRAIN:
            return split
        return drawn_split(identifier, valid_share=self.config.valid_share, test_share=0.0, seed=self.config.split_seed)


class AudioSet20kCorpus(AudioSetCorpus):
    """The balanced training segments and the evaluation segments."""

    title = "AudioSet-20K"
    expected: ClassVar[Mapping[str, int]] = {BALANCED: 22_160, EVALUATION: 20_371}
    lists: ClassVar[Mapping[str, str]] = {BALANCED: TRAIN, EVALUATION: TEST}

    def __init__(self, config: AudioSet20kConfig) -> None:
        super().__init__(config)


class AudioSet2mCorpus(AudioSetCorpus):
    """All training segments and the evaluation segments."""

    title = "AudioSet-2M"
    expected: ClassVar[Mapping[str, int]] = {BALANCED: 22_160, UNBALANCED: 2_041_789, EVALUATION: 20_371}
    lists: ClassVar[Mapping[str, str]] = {BALANCED: TRAIN, UNBALANCED: TRAIN, EVALUATION: TEST}

    def __init__(self, config: AudioSet2mConfig) -> None:
        super().__init__(config)


def read_classes(table: Path) -> dict[str, str]:
    """Read the name of each class by its `mid`, in the order of the indices.

    Raises:
        CorpusError: if the table does not list AudioSet's 527 classes in order
    """
    rows = table_rows(table)
    where, header = next(rows, (f"{table}:1", []))
    if header != _HEADER:
        raise CorpusError(f"{where}: the columns are `{','.join(header)}`, but must be `{','.join(_HEADER)}`.")
    names: dict[str, str] = {}
    for number, (where, row) in enumerate(rows):
        if len(row) != len(_HEADER) or row[0] != str(number):
            raise CorpusError(f"{where}: expected `{number},MID,NAME`, but found `{','.join(row)}`.")
        if row[1] in names:
            raise CorpusError(f"{where}: the class `{row[1]}` is listed twice.")
        names[row[1]] = row[2]
    if len(names) != CLASSES:
        raise CorpusError(f"`{table}` lists {len(names)} classes, but AudioSet has {CLASSES}; download it again.")
    return names


def _segments(
    table: Path, ids: Mapping[str, int], first_lines: dict[str, str], problems: list[str]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield identifier and labels of every segment. `first_lines` collects the line that lists each identifier."""
    stated, count = None, 0
    for where, row in table_rows(table, skip_spaces=True):
        if row[0].startswith("#"):
            stated = next((int(found[1]) for cell in row if (found := _STATED.search(cell))), stated)
            continue
        count += 1
        identifier = row[0]
        if problem := _segment_problem(row, ids):
            problems.append(f"{where}: {problem}")
        elif (first := first_lines.setdefault(identifier, where)) != where:
            problems.append(f"{where}: `{identifier}` is already listed at {first}; keep one of them.")
        else:
            yield identifier, tuple(dict.fromkeys(ids[mid] for mid in row[3].split(",")))
    if stated is not None and stated != count:
        problems.append(f"`{table}` states that it has {stated} segments, but has {count}; download it again.")


def _segment_problem(row: list[str], ids: Mapping[str, int]) -> str | None:
    if len(row) != 4:
        return f"{len(row)} cells, but a segment has 4: {_CELLS}."
    if not _IDENTIFIER.fullmatch(row[0]):
        return f"`{row[0]}` is not a video identifier; expected 11 letters, digits, `-` or `_`."
    unknown = [mid for mid in row[3].split(",") if mid not in ids]
    return f"the labels `{', '.join(unknown)}` are not in class_labels_indices.csv." if unknown else None


def recordings_below(root: Path) -> dict[str, str]:
    """Find the path of each recording below `root` by the identifier in its name; the first if there are several."""
    found: dict[str, str] = {}
    for path in audio_below(root):
        if recording := _RECORDING.fullmatch(os.path.splitext(os.path.basename(path))[0]):
            found.setdefault(recording[1], path)
    return found
