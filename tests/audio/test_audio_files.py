"""Finding audio files: links, loops of links, and files that are not regular files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ossicle.audio.corpora.audio_files import audio_below
from ossicle.audio.corpora.audioset import recordings_below
from ossicle.audio.corpora.folder import FolderCorpus
from ossicle.audio.corpus_config import FolderConfig


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def test_files_of_a_folder_come_before_those_of_its_subfolders(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.wav", "b/1.FLAC", "b/a/3.ogg", "c.wav", "a-b/4.wav", "a/5.wav")
    touch(tmp_path, "._c.wav", ".cache/6.wav", "notes.txt", "wav")

    paths = list(audio_below(tmp_path))

    assert paths == ["c.wav", "a/5.wav", "a-b/4.wav", "b/1.FLAC", "b/2.wav", "b/a/3.ogg"]


def test_loops_of_links_list_each_file_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.wav", "a/b/2.wav")
    link(tmp_path / "a" / "b" / "to_root", tmp_path)
    link(tmp_path / "a" / "here", ".")
    link(tmp_path / "a" / "ring", "ring")
    link(tmp_path / "0_first", "a")

    assert list(audio_below(tmp_path)) == ["a/1.wav", "a/b/2.wav"]
    assert FolderCorpus(FolderConfig(path=tmp_path)).manifest().paths.tolist() == ["a/1.wav", "a/b/2.wav"]


def test_links_to_outside_folders_are_followed_once(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    touch(root, "z.wav")
    touch(elsewhere, "1.wav", "deep/2.wav")
    link(root / "b", elsewhere)
    link(root / "a", elsewhere)
    link(root / "c", elsewhere / "deep")
    link(elsewhere / "back", root)
    link(elsewhere / "further", tmp_path / "further")
    touch(tmp_path / "further", "3.wav")

    assert list(audio_below(root)) == ["z.wav", "a/1.wav", "a/deep/2.wav", "a/further/3.wav"]


def test_linked_files_are_listed_once_under_the_first_name(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    touch(root, "real.wav")
    touch(elsewhere, "1.wav", "blob")
    link(root / "a.wav", "real.wav")
    link(root / "c.wav", elsewhere / "1.wav")
    link(root / "b.wav", elsewhere / "1.wav")
    link(root / "d.wav", elsewhere / "blob")
    link(root / "e.wav", "d.wav")

    assert list(audio_below(root)) == ["real.wav", "b.wav", "d.wav"]


def test_broken_links_are_listed_so_that_the_survey_reports_them(tmp_path: Path) -> None:
    link(tmp_path / "gone.wav", "nowhere.wav")

    assert list(audio_below(tmp_path)) == ["gone.wav"]


def test_pipes_and_devices_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    link(tmp_path / "null.wav", "/dev/null")
    link(tmp_path / "linked_pipe.wav", "pipe.wav")

    assert list(audio_below(tmp_path)) == ["a.wav"]


def test_audioset_finds_recordings_behind_links_and_no_pipes(tmp_path: Path) -> None:
    touch(tmp_path, "z/--PJHxphWEs.wav")
    link(tmp_path / "a" / "loop", tmp_path)
    os.mkfifo(tmp_path / "0123456789a.wav")

    assert recordings_below(tmp_path) == {"--PJHxphWEs": "z/--PJHxphWEs.wav"}


def test_an_unreadable_folder_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.wav", "secret/b.wav")
    scandir = os.scandir

    def refused(folder: str) -> Any:
        if folder.endswith("secret"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refused)

    assert list(audio_below(tmp_path)) == ["a.wav"]
    assert "left out a folder that cannot be read: [Errno 13] Permission denied" in caplog.text
