"""`embed` and `tokenize`: files with embeddings and tokens of audio files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from ossicle.audio.windows import OVERLAP_SECONDS, WINDOW_SECONDS
from ossicle.cli.entry import parse

pytestmark = pytest.mark.usefixtures("own_plugins")

Commands = Callable[..., Any]
"""Runs a command and returns its exit code, standard output and standard error as `code`, `out` and `err`."""


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of 1.0 and 0.5 s, at different rates."""
    folder = tmp_path_factory.mktemp("sounds")
    draw = np.random.default_rng(1)
    for name, seconds, rate in (("a", 1.0, 16000), ("b", 0.5, 8000)):
        soundfile.write(folder / f"{name}.wav", 0.1 * draw.standard_normal(int(seconds * rate)), rate)
    return folder


COLUMNS = {"a": 6, "b": 3}
"""Whole patches of 16 frames of 10 ms; 1.0 s has 98 frames of 25 ms, 0.5 s has 48."""


def test_embeddings_as_npz(finished: tuple[Path, Any], sounds: Path, tmp_path: Path, ossicle: Commands) -> None:
    out = tmp_path / "new" / "x.npz"
    shown = ossicle("embed", finished[0] / "runs/own", sounds, "--out", out)
    assert (shown.code, shown.out) == (0, f"2 files -> {out}\n"), shown.err
    with np.load(out) as file:
        made = dict(file)
    assert made["files"].tolist() == [str(sounds / "a.wav"), str(sounds / "b.wav")]
    assert made["offsets"].tolist() == [0, 6, 9]
    assert made["embedding"].shape == (9, 32)
    assert made["clip_embedding"].shape == (2, 32)
    assert made["clip_end"].tolist() == [1.0, 0.5]
    np.testing.assert_allclose(made["start"], [0.16 * column for count in (6, 3) for column in range(count)])
    assert (made["end"] > made["start"]).all()
    assert (made["end"][[5, 8]] <= made["clip_end"]).all()
    np.testing.assert_allclose(made["embedding"][:6].mean(0), made["clip_embedding"][0], atol=1e-4)


def test_embeddings_as_parquet_hold_clips_and_frames(
    finished: tuple[Path, Any], sounds: Path, tmp_path: Path, ossicle: Commands
) -> None:
    out = tmp_path / "x.parquet"
    assert ossicle("embed", finished[0] / "runs/own", sounds, "--out", out).code == 0
    table = pyarrow.parquet.read_table(out)
    assert table.column_names == ["file", "scope", "embedding", "start", "end"]
    rows = table.to_pylist()
    assert [row["scope"] for row in rows] == ["clip"] * 2 + ["frame"] * 9
    assert [(row["start"], row["end"]) for row in rows[:2]] == [(0.0, 1.0), (0.0, 0.5)]
    for name, count in COLUMNS.items():
        own = [row for row in rows if row["file"] == str(sounds / f"{name}.wav") and row["scope"] == "frame"]
        np.testing.assert_allclose([row["start"] for row in own], 0.16 * np.arange(count))
        clip = next(row for row in rows if row["file"] == own[0]["file"] and row["scope"] == "clip")
        np.testing.assert_allclose(np.mean([row["embedding"] for row in own], axis=0), clip["embedding"], atol=1e-4)


def test_tokens(finished: tuple[Path, Any], sounds: Path, tmp_path: Path, ossicle: Commands) -> None:
    out = tmp_path / "x.parquet"
    assert ossicle("tokenize", finished[0] / "runs/own", sounds / "b.wav", "--out", out).code == 0
    table = pyarrow.parquet.read_table(out).to_pydict()
    assert list(table) == ["file", "token", "start", "end", "low_hz", "high_hz"]
    assert len(table["token"]) == 3 * 2
    assert all(0 <= token < 512 for token in table["token"])
    np.testing.assert_allclose(table["start"], np.repeat(0.16 * np.arange(3), 2))
    assert table["low_hz"][0] < table["high_hz"][0] <= table["high_hz"][1] <= 8000
    assert table["low_hz"][:2] == table["low_hz"][2:4]


def test_refused_arguments_of_embed(
    finished: tuple[Path, Any], sounds: Path, tmp_path: Path, ossicle: Commands
) -> None:
    own = finished[0] / "runs/own"
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in (
        ((own, sounds, "--out", "x.csv"), "--out must end in .npz or .parquet, but is x.csv"),
        ((own, empty), f"{empty} holds no audio files (.aif"),
        ((own, tmp_path / "gone.wav"), f"{tmp_path / 'gone.wav'} does not exist"),
        ((empty, sounds), f"{empty} is not an artifact: it holds no card.json"),
    ):
        shown = ossicle("embed", *arguments)
        assert (shown.code, shown.out) == (2, "")
        assert shown.err.startswith(message)


@pytest.mark.parametrize("command", ["embed", "tokenize"])
def test_default_windows_are_those_of_the_python_interface(command: str) -> None:
    # The command line repeats them, because the module that defines them imports torch.
    options = parse([command, "part", "audio"])
    assert (options.window_seconds, options.overlap_seconds) == (WINDOW_SECONDS, OVERLAP_SECONDS)
