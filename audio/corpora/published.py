"""Base class of corpora in the form in which their owners distribute them.

Notable choices:

- Each reader states the official number of clips of every group (a split, a fold, a class). A corpus with other numbers
  is refused, because a result on part of a test set cannot be compared with those in papers. `partial: true` allows an
  incomplete corpus.
- A corpus is read from its own lists. Nothing is ever downloaded.
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

from ...core.corpus import TRAIN, Corpus
from ...core.errors import CorpusError
from ...core.manifest import Labels, Manifest, text_column
from .headers import read_headers

_REPORTED = 5
_NAMED = 10


@dataclass(frozen=True)
class Count:
    """Number of clips of a group that are present, and their official number."""

    present: int
    expected: int


@dataclass
class Listing:
    """The listed clips of a corpus that are present, as columns.

    Attributes:
        label_names: the name of each label id
        paths, splits, labels, folds: as in a manifest
        groups: number of present clips by group
        missing: listed clips that are not present
        problems: problems of the lists themselves
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
        """Append a clip that is present."""
        self.paths.append(path)
        self.splits.append(split)
        self.labels.append(labels)
        self.folds.append(fold)
        self.groups.update(groups)


class PublishedCorpus(Corpus):
    """Base class of the readers of published corpora.

    Args:
        path: folder of the unpacked corpus
        partial: whether to accept an incomplete corpus
    """

    title: ClassVar[str]
    source: ClassVar[str]
    """The owners' web page."""
    license: ClassVar[str]
    remedy: ClassVar[str]
    """One sentence that describes how to get the data."""
    expected: ClassVar[Mapping[str, int]]
    """Maps each group to its official number of clips."""
    multi_label: ClassVar[bool] = False

    def __init__(self, path: Path, *, partial: bool) -> None:
        self.path = path
        self.partial = partial

    @abstractmethod
    def read(self) -> Listing:
        """Read the lists of the corpus and find out which clips are present.

        Problems inside a list are added to `Listing.problems`.

        Raises:
            CorpusError: if a list is missing or unreadable
        """

    def official(self) -> Mapping[str, int]:
        """Return the official number of clips of each group that the configuration uses."""
        return self.expected

    def manifest(self) -> Manifest:
        """List the clips that are present.

        Raises:
            CorpusError: if the corpus is missing, malformed or incomplete; the message has the numbers and the remedy
        """
        self.check()
        return self.manifest_of(self.listing, self.path)

    def problems(self) -> list[str]:
        """List the problems of the corpus's lists and counts, without opening recordings."""
        if fault := self.folder_problem(self.path):
            return [fault]
        if self.listing.problems:
            rest = len(self.listing.problems) - _REPORTED
            return self.listing.problems[:_REPORTED] + ([f"… and {rest} more."] if rest > 0 else [])
        if not self.listing.paths:
            return [self.nothing_there()]
        return [self._incomplete()] if not self.partial and self._differing() else []

    def counts(self) -> dict[str, Count]:
        """Count the present clips of each group, next to the official numbers."""
        return {group: Count(self.listing.groups[group], number) for group, number in self.official().items()}

    def missing(self) -> list[str]:
        """List every clip that the corpus's lists name and that is not present."""
        return list(self.listing.missing)

    def card(self) -> dict[str, Any]:
        """Describe source and licence. If the folder exists, add the counts and the first missing clips."""
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
        """The result of `read`, or a listing with the raised error as its problem."""
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
        """Create the manifest of a listing whose paths are relative to `root`."""
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
        """Describe the problem of a folder that the user named, if there is one."""
        if folder.is_dir():
            return None
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        return f"{self.title}: the folder `{folder}` {kind} (looked for `{folder.absolute()}`). {self.remedy}"

    def nothing_there(self) -> str:
        """Describe that the lists exist and the clips do not."""
        first = f" (first: `{self.listing.missing[0]}`)" if self.listing.missing else ""
        return f"{self.title}: none of the listed clips is below `{self.path}`{first}. {self.remedy}"

    def _differing(self) -> dict[str, Count]:
        return {group: count for group, count in self.counts().items() if count.present != count.expected}

    def _incomplete(self) -> str:
        differing = [f"{group} {count.present} of {count.expected}" for group, count in self._differing().items()]
        reported = ", ".join(differing[:_REPORTED]) + (", …" if len(differing) > _REPORTED else "")
        missing = self.listing.missing
        named = f"; listed but missing: {len(missing)}, the first `{missing[0]}`" if missing else ""
        return (
            f"{self.title} below `{self.path}` does not have the official number of clips: {reported}{named}. "
            f"Set `partial: true` to use it anyway. {self.remedy}"
        )


def listed_file(path: Path, remedy: str) -> Path:
    """Return the path of a file that belongs to the corpus.

    Raises:
        CorpusError: if it is missing
    """
    if not path.is_file():
        raise CorpusError(f"`{path}` does not exist, so `path` is not the corpus as distributed. {remedy}")
    return path


def table_rows(path: Path, *, skip_spaces: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows of a UTF-8 table, each with its `file:line`. Empty lines are left out.

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
    """List the names of files and folders in a folder that end in `suffix`, sorted.

    Hidden files, named pipes and devices are left out. The list is empty if the folder does not exist.
    """
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file() or entry.is_dir()]
    return sorted(name for name in names if name.endswith(suffix) and not name.startswith("."))
