"""Embedding and tokenizing files refuse paths without audio before they load a model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossicle.core.errors import OssicleError
from ossicle.inference.export import embed_files, tokenize_files


def test_a_named_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")

    with pytest.raises(OssicleError, match=r"pipe\.wav is neither a regular file nor a folder; write the audio into a"):
        embed_files(tmp_path / "part", [tmp_path / "pipe.wav"], tmp_path / "out.npz")


def test_a_folder_of_pipes_and_link_loops_contains_no_audio(tmp_path: Path) -> None:
    (tmp_path / "sounds").mkdir()
    os.mkfifo(tmp_path / "sounds" / "pipe.wav")
    (tmp_path / "sounds" / "loop").symlink_to(".")

    with pytest.raises(OssicleError, match=r"sounds holds no audio files \(\.aif, "):
        tokenize_files(tmp_path / "part", [tmp_path / "sounds"], tmp_path / "out.npz")
