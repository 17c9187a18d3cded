"""ESC-50: 2,000 environmental sounds of five seconds, 50 classes, five folds (Piczak, 2015,
doi 10.1145/2733373.2806390).

Notable choices:

- Every clip is in `train` with its official fold, for cross-validation, because ESC-50 has no validation split.
- The official folds must be used, because they keep all clips of a source recording in one fold.
- Label ids are the table's `target`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ..published_corpus_config import Esc50Config
from .published import Listing, PublishedCorpus, listed_file, names_in, table_rows

CLASSES = (
    *("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow"),
    *("rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds"),
    *("water_drops", "wind", "pouring_water", "toilet_flush", "thunderstorm"),
    *("crying_baby", "sneezing", "clapping", "breathing", "coughing"),
    *("footsteps", "laughing", "brushing_teeth", "snoring", "drinking_sipping"),
    *("door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening"),
    *("washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking"),
    *("helicopter", "chainsaw", "siren", "car_horn", "engine"),
    *("train", "church_bells", "airplane", "fireworks", "hand_saw"),
)
FOLDS = (1, 2, 3, 4, 5)
COLUMNS = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]


class Esc50Corpus(PublishedCorpus):
    """`meta/esc50.csv` and `audio/*.wav`."""

    title = "ESC-50"
    source = "https://github.com/karolpiczak/ESC-50"
    license = "CC BY-NC 3.0 (the clips of ESC-10: CC BY 3.0)"
    remedy = (
        "Download it from https://github.com/karolpiczak/ESC-50 (one archive of 600 MB), unpack it, and set `path` to "
        "the folder that contains `meta` and `audio`."
    )
    expected: ClassVar[Mapping[str, int]] = {
        "clips": 2000,
        **{f"fold {fold}": 400 for fold in FOLDS},
        **{f"class {name}": 40 for name in CLASSES},
    }

    def __init__(self, config: Esc50Config) -> None:
        super().__init__(config.path, partial=config.partial)
        self.config = config

    def read(self) -> Listing:
        """Read `meta/esc50.csv`."""
        listing = Listing(label_names=CLASSES)
        table = listed_file(self.path / "meta" / "esc50.csv", self.remedy)
        there = set(names_in(self.path / "audio"))
        rows = table_rows(table)
        where, header = next(rows, (f"{table}:1", []))
        if header != COLUMNS:
            listing.problems.append(f"{where}: the columns are {_row(header)}, but must be {_row(COLUMNS)}.")
            return listing
        first_lines: dict[str, str] = {}
        for where, row in rows:
            problem = _row_problem(row) or _repetition(row[0], where, first_lines)
            if problem:
                listing.problems.append(f"{where}: {problem}")
            elif row[0] in there:
                name, fold, target = row[0], int(row[1]), int(row[2])
                groups = ("clips", f"fold {fold}", f"class {CLASSES[target]}")
                listing.add(f"audio/{name}", (target,), fold=fold, groups=groups)
            else:
                listing.missing.append(f"audio/{row[0]}")
        return listing


def _row_problem(row: list[str]) -> str | None:
    if len(row) != len(COLUMNS):
        return f"{len(row)} cells, but the header names {len(COLUMNS)} columns."
    name, fold, target, category = row[:4]
    if fold not in map(str, FOLDS):
        return f"`fold` is `{fold}`; allowed: 1 to 5."
    if target not in map(str, range(len(CLASSES))):
        return f"`target` is `{target}`; allowed: 0 to 49."
    if category != CLASSES[int(target)]:
        return f"target {target} is `{category}`, but in ESC-50 it is `{CLASSES[int(target)]}`."
    parts = Path(name).stem.split("-")
    if (parts[0], parts[-1]) != (fold, target):
        return f"`{name}` does not match fold {fold} and target {target}; expected FOLD-SOURCE-TAKE-TARGET.wav."
    return None


def _repetition(name: str, where: str, first_lines: dict[str, str]) -> str | None:
    first = first_lines.setdefault(name, where)
    return f"`{name}` is already listed at {first}; keep one of them." if first != where else None


def _row(cells: list[str]) -> str:
    return f"`{','.join(cells)}`"
