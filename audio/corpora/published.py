"""Corpora as their owners distribute them: what should be there, what is, and what is missing.

Notable choices: a corpus states how many clips each of its groups (a split, a fold, a class) officially has, and is
refused with the numbers when they differ, because a figure on part of a test set is not the figure that papers report;
whoever has only a part says so. A corpus is read from its own lists; nothing is ever downloaded.
"""

from __future__ import annotations

import csv
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...core.corpus import TRAIN, Corpus, Labels, Manifest, text_column
from ...core.errors import CorpusError
from .headers import read_headers

_TOLD = 5
_NAMED = 10


@dataclass(frozen=True)
class Count:
    """How many clips of a group are there, and how many there officially are."""

    present: int
    expected: int


@dataclass
class Listing:
    """The clips of a corpus that its lists name and that are there, as columns.

    Attributes:
        label_names: the name of each label id
        paths, splits, labels, folds: as in a manifest
        groups: how many clips of each group are there
        missing: the clips that the lists name and that are not there
        problems: what is wrong with the lists themselves
    """

    label_names: tuple[str, ...] = ()
    paths: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    labels: list[tuple[int, ...]] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)
    groups: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(
        self,
        path: str,
        labels: tuple[int, ...],
        *,
        split: str = TRAIN,
        fold: int = -1,
        groups: Sequence[str] = (),
    ) -> None:
        """Append a clip that is there."""
        self.paths.append(path)
        self.splits.append(split)
        self.labels.append(labels)
        self.folds.append(fold)
        self.groups.update(groups)


class PublishedCorpus(Corpus):
    """Base of the readers of published corpora.

    Args:
        path: folder of the corpus, unpacked
        partial: whether to be content with what is there
    """

    title: ClassVar[str]
    source: ClassVar[str]
    """The owners' page."""
    license: ClassVar[str]
    remedy: ClassVar[str]
    """One sentence that says how to get the data."""
    expected: ClassVar[Mapping[str, int]]
    """Group to its official number of clips."""
    multi_label: ClassVar[bool] = False

    def __init__(self, path: Path, *, partial: bool) -> None:
        self.path = path
        self.partial = partial

    @abstractmethod
    def read(self) -> Listing:
        """Read the corpus's lists and look which clips are there.

        Raises:
            CorpusError: if a list is missing or unreadable; what is wrong inside it goes into the listing's problems.
        """

    def official(self) -> Mapping[str, int]:
        """Group to the number of clips that it should have as configured."""
        return self.expected

    def manifest(self) -> Manifest:
        """List the clips that are there.

        Raises:
            CorpusError: if the corpus is missing, malformed or not whole; the message gives numbers and remedy.
        """
        self.check()
        return self.manifest_of(self.listing, self.path)

    def problems(self) -> list[str]:
        """What is wrong with the corpus's lists and counts; opens no recording."""
        if fault := self.folder_problem(self.path):
            return [fault]
        if self.listing.problems:
            rest = len(self.listing.problems) - _TOLD
            return self.listing.problems[:_TOLD] + ([f"… and {rest} more."] if rest > 0 else [])
        if not self.listing.paths:
            return [self.nothing_there()]
        return [self._not_whole()] if not self.partial and self._differing() else []

    def counts(self) -> dict[str, Count]:
        """How many clips of each group are there, and how many there officially are."""
        return {group: Count(self.listing.groups[group], number) for group, number in self.official().items()}

    def missing(self) -> list[str]:
        """Every clip that the corpus's lists name and that is not there."""
        return list(self.listing.missing)

    def card(self) -> dict[str, Any]:
        """Name source and licence; if the folder is there, also the counts and the first missing clips."""
        card: dict[str, Any] = {"source": self.source, "license": self.license}
        if self.path.is_dir():
            counts = self.counts().items()
            card |= {
                "counts": {group: {"present": count.present, "expected": count.expected} for group, count in counts},
                "missing": len(self.listing.missing),
                "first_missing": self.listing.missing[:_NAMED],
            }
        return card

    @cached_property
    def listing(self) -> Listing:
        """What `read` found, or the error it raised as its problem."""
        try:
            return self.read()
        except CorpusError as error:
            return Listing(problems=[str(error)])

    def check(self) -> None:
        """Refuse a corpus with problems.

        Raises:
            CorpusError: with all problems
        """
        if problems := self.problems():
            raise CorpusError("\n".join(problems))

    def manifest_of(self, listing: Listing, root: Path) -> Manifest:
        """The manifest of a listing whose paths are relative to `root`."""
        headers = read_headers(root, listing.paths)
        return Manifest(
            root=root,
            paths=text_column(listing.paths),
            frames=headers.frames,
            sample_rates=headers.sample_rates,
            contents=headers.contents,
            splits=np.array(listing.splits, dtype=np.str_),
            labels=Labels.of(listing.labels),
            label_names=listing.label_names,
            multi_label=self.multi_label,
            folds=np.array(listing.folds, dtype=np.int32),
        )

    def folder_problem(self, folder: Path) -> str | None:
        """What is wrong with a folder that the user named, if anything."""
        if folder.is_dir():
            return None
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        return f"{self.title}: the folder `{folder}` {kind} (looked for `{folder.absolute()}`). {self.remedy}"

    def nothing_there(self) -> str:
        """Say that the lists are there and the clips are not."""
        first = f" (first: `{self.listing.missing[0]}`)" if self.listing.missing else ""
        return f"{self.title}: no clip is there below `{self.path}`{first}. {self.remedy}"

    def _differing(self) -> dict[str, Count]:
        return {group: count for group, count in self.counts().items() if count.present != count.expected}

    def _not_whole(self) -> str:
        differing = [f"{group} {count.present} of {count.expected}" for group, count in self._differing().items()]
        told = ", ".join(differing[:_TOLD]) + (", …" if len(differing) > _TOLD else "")
        missing = self.listing.missing
        named = f"; listed but missing: {len(missing)}, the first `{missing[0]}`" if missing else ""
        return (
            f"{self.title} below `{self.path}` does not have the official number of clips: {told}{named}. "
            f"Set `partial: true` to use it all the same. {self.remedy}"
        )


def listed_file(path: Path, remedy: str) -> Path:
    """A file that belongs to the corpus.

    Raises:
        CorpusError: if it is missing
    """
    if not path.is_file():
        raise CorpusError(f"`{path}` does not exist, so `path` is not the corpus as it is distributed. {remedy}")
    return path


def table_rows(path: Path, *, skip_spaces: bool = False) -> Iterator[tuple[str, list[str]]]:
    """The rows of a UTF-8 table, each with its place as `file:line`; empty lines are left out.

    Raises:
        CorpusError: if the table cannot be read
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, skipinitialspace=skip_spaces)
            for row in rows:
                if row:
                    yield f"{path}:{rows.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"`{path}` cannot be read as a UTF-8 table: {error}.") from error


def names_in(folder: Path, suffix: str = "") -> list[str]:
    """The sorted names of files and folders inside a folder that end in `suffix`; none if there is no such folder.

    Hidden ones, named pipes and devices are left out.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file() or entry.is_dir()]
    return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))
