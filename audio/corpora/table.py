"""A corpus from a table with one row per clip, with its labels, split and fold.

Notable choices:

- Problems of the table are reported with their lines. Only the first few are listed, with the number of the others.
- A path that is listed twice is an error, because one recording in two splits invalidates the test.
- Missing recordings are reported by the survey. If the first ones are all missing, `root` is probably wrong, which is
  reported at once.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ...core.corpus import TRAIN, UNLABELLED, VALID, Corpus
from ...core.errors import CorpusError
from ...core.manifest import Labels, Manifest, text_column
from ..corpus_config import CsvConfig
from .headers import PATH_REMEDY, read_headers
from .splits import drawn_split, split_named

_REPORTED = 5
_PROBED = 20
Number = TypeVar("Number", int, float)


@dataclass
class _Table:
    """The columns that are used, with the values of the table, and their problems."""

    paths: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    labels: list[tuple[str, ...]] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class CsvCorpus(Corpus):
    """The recordings that a table lists."""

    def __init__(self, config: CsvConfig) -> None:
        self.config = config
        self.root = config.path.parent if config.root is None else config.root

    def manifest(self) -> Manifest:
        """List the clips in the order of the table.

        Raises:
            CorpusError: if the table is missing or malformed; the message names the file and the lines
        """
        if problems := self.problems():
            raise CorpusError("\n".join(problems))
        table = self._table
        headers = read_headers(self.root, table.paths)
        label_names = self._label_names(table)
        ids = {name: number for number, name in enumerate(label_names)}
        return Manifest(
            root=self.root,
            paths=text_column(table.paths),
            frames=headers.frames,
            sample_rates=headers.sample_rates,
            contents=headers.contents,
            splits=np.array(table.splits, dtype=np.str_),
            labels=Labels.of([tuple(ids[name] for name in names) for names in table.labels]),
            label_names=label_names,
            multi_label=self.config.labels_column is not None,
            folds=np.array(table.folds, dtype=np.int32),
        )

    def problems(self) -> list[str]:
        """List the problems of the table, without opening recordings."""
        if not self.config.path.is_file():
            return [f"the table `{self.config.path}` does not exist. {PATH_REMEDY}"]
        if self._table.problems:
            return _first(self._table.problems)
        return self._missing_recordings()

    def declared_seconds(self) -> npt.NDArray[np.float64] | None:
        """Return the durations of the table, (clips,), NaN where one is missing; None without a `duration_column`."""
        if self.config.duration_column is None:
            return None
        return np.array(self._table.durations, dtype=np.float64)

    def card(self) -> dict[str, Any]:
        """Name the table as the source. The licence is not known."""
        return {"source": str(self.config.path), "license": "as its owner states"}

    @cached_property
    def _table(self) -> _Table:
        return _read(self.config)

    def _label_names(self, table: _Table) -> tuple[str, ...]:
        if self.config.label_names is not None:
            return self.config.label_names
        return tuple(sorted({name for names in table.labels for name in names}))

    def _missing_recordings(self) -> list[str]:
        probed = self._table.paths[:_PROBED]
        if any((self.root / path).exists() for path in probed):
            return []
        return [
            f"none of the first {len(probed)} recordings of `{self.config.path}` exists below `{self.root}` (first: "
            f"`{probed[0]}`); set `root` to the folder that the paths are relative to."
        ]


def _read(config: CsvConfig) -> _Table:
    table = _Table()
    try:
        with config.path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, delimiter="\t" if config.path.suffix.lower() == ".tsv" else ",")
            header = [name.strip() for name in next(rows, [])]
            table.problems += _header_problems(config, header)
            if not table.problems:
                _read_rows(config, header, _numbered(rows), table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        table.problems.append(f"`{config.path}` cannot be read as a UTF-8 table: {error}.")
    if config.valid_share:
        _draw_validation(config, table)
    return table


def _draw_validation(config: CsvConfig, table: _Table) -> None:
    if VALID in table.splits:
        table.problems.append(f"`valid_share` is set, but `{config.path}` already has validation clips; remove it.")
    for row, (path, split) in enumerate(zip(table.paths, table.splits, strict=True)):
        if split == TRAIN:
            table.splits[row] = drawn_split(
                path, valid_share=config.valid_share, test_share=0.0, seed=config.split_seed
            )


def _numbered(rows: Any) -> Iterator[tuple[int, list[str]]]:
    for row in rows:
        if row:
            yield rows.line_num, row


def _header_problems(config: CsvConfig, header: Sequence[str]) -> list[str]:
    if config.label_column and config.labels_column:
        return [
            "`label_column` and `labels_column` are both given; keep the first for one label per clip, else the second."
        ]
    required = {
        "path_column": config.path_column,
        "label_column": config.label_column,
        "labels_column": config.labels_column,
        "duration_column": config.duration_column,
    }
    # These two have defaults, so they are required only if the user set them.
    for key in {"split_column", "fold_column"} & config.model_fields_set:
        required[key] = getattr(config, key)
    return [
        f"{config.path}:1: there is no column `{name}` (`{key}`).{_did_you_mean(name, header)} "
        f"The columns are: {', '.join(header) or 'none'}."
        for key, name in required.items()
        if name is not None and name not in header
    ]


def _read_rows(config: CsvConfig, header: Sequence[str], rows: Iterator[tuple[int, list[str]]], table: _Table) -> None:
    first_lines: dict[str, int] = {}
    for line, cells in rows:
        where = f"{config.path}:{line}"
        if len(cells) != len(header):
            table.problems.append(f"{where}: {len(cells)} cells, but the header names {len(header)} columns.")
            continue
        row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        path = row[config.path_column].replace("\\", "/")
        if not path:
            table.problems.append(f"{where}: the path is empty.")
        elif path in first_lines:
            table.problems.append(f"{where}: `{path}` is already listed on line {first_lines[path]}; keep one of them.")
        first_lines.setdefault(path, line)
        _append(config, row, where, path, table)
    if not table.paths and not table.problems:
        table.problems.append(f"{config.path}: the table lists no recordings; add at least one.")


def _append(config: CsvConfig, row: dict[str, str], where: str, path: str, table: _Table) -> None:
    split = _split(config, row, where, table.problems)
    table.paths.append(path)
    table.splits.append(split)
    table.labels.append(_labels(config, row, where, split, table.problems))
    fold = row.get(config.fold_column) or "-1"
    table.folds.append(_number(int, fold, f"{where}: `{config.fold_column}`", "a whole number", table.problems))
    seconds = row.get(config.duration_column or "") or "nan"
    table.durations.append(_number(float, seconds, f"{where}: `{config.duration_column}`", "seconds", table.problems))


def _split(config: CsvConfig, row: dict[str, str], where: str, problems: list[str]) -> str:
    stated = row.get(config.split_column)
    if stated is None:
        return TRAIN
    split = split_named(stated)
    if split is None:
        problems.append(
            f"{where}: unknown split `{stated}`; allowed: train, valid (val, validation, dev), test, unlabelled."
        )
    return split or TRAIN


def _labels(config: CsvConfig, row: dict[str, str], where: str, split: str, problems: list[str]) -> tuple[str, ...]:
    column = config.label_column or config.labels_column
    if column is None:
        return ()
    cell = row[column]
    if not cell and split == UNLABELLED:
        return ()
    names = [cell] if config.label_column else [name.strip() for name in cell.split(config.separator)]
    if not all(names):
        problems.append(f"{where}: empty label in `{column}`; add one, or move the clip to the split `unlabelled`.")
        return ()
    for name in names:
        if config.label_names is not None and name not in config.label_names:
            meant = _did_you_mean(name, config.label_names)
            problems.append(f"{where}: the label `{name}` is not among `label_names`.{meant}")
    return tuple(dict.fromkeys(names)) if split != UNLABELLED else ()


def _number(kind: type[Number], text: str, cell: str, expected: str, problems: list[str]) -> Number:
    try:
        return kind(text)
    except ValueError:
        problems.append(f"{cell} is `{text}`, but must be {expected}.")
        return kind(0)


def _did_you_mean(name: str, allowed: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def _first(problems: list[str]) -> list[str]:
    rest = len(problems) - _REPORTED
    return problems[:_REPORTED] + ([f"… and {rest} more."] if rest > 0 else [])
