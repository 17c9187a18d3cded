"""Find the audio files below a folder.

Notable choices:

- Symbolic links are followed, but every folder and every file is listed once, under its real path if that is below the
  root. Links may form loops, which would list a file once for each level that the operating system allows.
- Named pipes, sockets and devices are left out, because opening one may block forever. A broken link is listed, so the
  survey reports the file as missing.
- Names that begin with a dot are left out, because macOS leaves `._x.wav` next to `x.wav`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from os.path import splitext
from pathlib import Path

_log = logging.getLogger("ossicle")

SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64"}
)


def audio_below(root: Path) -> Iterator[str]:
    """Yield the path of each audio file relative to `root`, in an order that does not depend on the file system.

    The files of a folder come before those of its subfolders. Files that are reached through links come last.
    """
    walk = _Walk()
    folders = [("", os.path.realpath(root))]
    while folders:
        for below, folder in folders:
            yield from walk.files(below, folder)
        folders = walk.take_linked_folders()
    yield from walk.linked_files()


class _Walk:
    """The visited folders, and the links that are followed later, each with its path and target."""

    def __init__(self) -> None:
        self._visited: set[str] = set()
        self._linked_folders: list[tuple[str, str]] = []
        self._linked_files: list[tuple[str, str]] = []

    def files(self, below: str, folder: str) -> Iterator[str]:
        """Yield the files in and below a folder that was not visited before. Links are collected for later.

        Args:
            below: prefix of the yielded paths
            folder: a real path
        """
        if folder in self._visited:
            return
        self._visited.add(folder)
        names: list[str] = []
        subfolders: list[str] = []
        for entry in _entries(folder):
            if entry.is_symlink():
                self._add_link(below + entry.name, entry.path)
            elif entry.is_dir():
                subfolders.append(entry.name)
            elif entry.is_file() and _is_audio(entry.name):
                names.append(entry.name)
        yield from (below + name for name in sorted(names))
        for name in sorted(subfolders):
            yield from self.files(f"{below}{name}/", os.path.join(folder, name))

    def take_linked_folders(self) -> list[tuple[str, str]]:
        """Return the links to folders that were found since the last call, with `/` at the end of each path."""
        found, self._linked_folders = sorted(self._linked_folders), []
        return found

    def linked_files(self) -> Iterator[str]:
        """Yield the first link to each file that is not listed yet."""
        listed: set[str] = set()
        for path, target in sorted(self._linked_files):
            if target not in listed and not self._has_listed(target):
                listed.add(target)
                yield path

    def _add_link(self, path: str, link: str) -> None:
        if os.path.isdir(link):
            self._linked_folders.append((f"{path}/", os.path.realpath(link)))
        elif _is_audio(path) and (os.path.isfile(link) or not os.path.exists(link)):
            self._linked_files.append((path, os.path.realpath(link)))

    def _has_listed(self, target: str) -> bool:
        folder, name = os.path.split(target)
        return folder in self._visited and _is_audio(name) and not name.startswith(".") and os.path.isfile(target)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        _log.warning("left out a folder that cannot be read: %s", error)


def _is_audio(path: str) -> bool:
    return splitext(path)[1].lower() in SUFFIXES
