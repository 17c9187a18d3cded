"""A corpus from any tree of audio files.

Notable choices:

- A label is the *first* folder below the root or below the split's folder, so a class may have sub-folders.
- Splits are either folders or drawn by a hash of the path, never a mixture.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ...core.corpus import UNLABELLED, Corpus
from ...core.errors import CorpusError
from ...core.manifest import Labels, Manifest, text_column
from ..corpus_config import FolderConfig
from .audio_files import SUFFIXES, audio_below
from .headers import PATH_REMEDY, read_headers
from .splits import drawn_split, split_named


class FolderCorpus(Corpus):
    """The recordings below a folder."""

    def __init__(self, config: FolderConfig) -> None:
        self.config = config

    def manifest(self) -> Manifest:
        """List the recordings in the order of their paths.

        Raises:
            CorpusError: if the folder is missing or has no audio files, or if folders and configuration disagree
        """
        if problems := self.problems():
            raise CorpusError("\n".join(problems))
        headers = read_headers(self.config.path, self._paths)
        names = [self._label(path, split) for path, split in zip(self._paths, self._splits, strict=True)]
        label_names = tuple(sorted({name for name in names if name is not None}))
        ids = {name: number for number, name in enumerate(label_names)}
        return Manifest(
            root=self.config.path,
            paths=text_column(self._paths),
            frames=headers.frames,
            sample_rates=headers.sample_rates,
            contents=headers.contents,
            splits=np.array(self._splits, dtype=np.str_),
            labels=Labels.of([() if name is None else (ids[name],) for name in names]),
            label_names=label_names,
        )

    def problems(self) -> list[str]:
        """List the problems that the names of folders and files show, without opening recordings."""
        folder, config = self.config.path, self.config
        if not folder.is_dir():
            kind = "is a file, not a folder" if folder.exists() else "does not exist"
            return [f"the folder `{folder}` {kind} (looked for `{folder.absolute()}`). {PATH_REMEDY}"]
        if not self._paths:
            allowed = ", ".join(sorted(SUFFIXES))
            return [f"no audio files below `{folder.absolute()}`; searched for {allowed} at any depth. Check `path`."]
        return [
            problem for problem in (_share_problem(config), self._split_problem(), self._label_problem()) if problem
        ]

    def card(self) -> dict[str, Any]:
        """Name the folder as the source. The licence is not known."""
        return {"source": str(self.config.path), "license": "as its owner states"}

    @cached_property
    def _paths(self) -> list[str]:
        return sorted(audio_below(self.config.path))

    @cached_property
    def _splits(self) -> list[str]:
        return [self._split(path) for path in self._paths]

    @cached_property
    def _top_folders(self) -> set[str]:
        return {path.split("/")[0] if "/" in path else "." for path in self._paths}

    @cached_property
    def _has_split_folders(self) -> bool:
        if self.config.splits == "auto":
            return all(split_named(name) for name in self._top_folders)
        return self.config.splits == "folders"

    def _split(self, path: str) -> str:
        if self._has_split_folders:
            return split_named(path.split("/")[0]) or UNLABELLED
        config = self.config
        return drawn_split(path, valid_share=config.valid_share, test_share=config.test_share, seed=config.split_seed)

    def _label(self, path: str, split: str) -> str | None:
        if self.config.labels == "none" or split == UNLABELLED:
            return None
        folders = path.split("/")[:-1][self._has_split_folders :]
        return folders[0] if folders else None

    def _split_problem(self) -> str | None:
        config = self.config
        named = {name for name in self._top_folders if split_named(name)}
        others = self._top_folders - named
        if self._has_split_folders and not others and (config.valid_share or config.test_share):
            return (
                f"`valid_share` and `test_share` have no effect, because the folders {_listed(named)} in "
                f"`{config.path}` state the splits; remove the shares or set `splits: shares`."
            )
        is_mixture = config.splits == "folders" or (config.splits == "auto" and named)
        if is_mixture and others:
            return (
                f"in `{config.path}` {_listed(named) or 'no folder'} is named as a split, but {_listed(others)} is "
                "not; allowed: train, valid, test, unlabelled. Move those, or set `splits: shares` if the names do "
                "not mean splits."
            )
        return None

    def _label_problem(self) -> str | None:
        if self.config.labels == "none":
            return None
        clips = zip(self._paths, self._splits, strict=True)
        loose = [path for path, split in clips if split != UNLABELLED and not self._label(path, split)]
        if not loose:
            return None
        return (
            f"`labels: folders` needs every recording in a folder that names its class, but {len(loose)} "
            f"{'is' if len(loose) == 1 else 'are'} directly in `{self.config.path}` or a split's folder "
            f"(first: `{loose[0]}`). Move such recordings into a folder, or set `labels: none`."
        )


def _share_problem(config: FolderConfig) -> str | None:
    total = config.valid_share + config.test_share
    if total < 1:
        return None
    return f"`valid_share` + `test_share` is {total:g}, which leaves nothing for training; allowed: less than 1."


def _listed(names: set[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)[:5]) + (", …" if len(names) > 5 else "")
