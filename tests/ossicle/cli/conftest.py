"""Commands as users meet them: what they print, where, and with which exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from forked import Program

from ossicle.cli import main

ROOT = Path(__file__).parents[3]


class Shown(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def ossicle(capsys: pytest.CaptureFixture[str]) -> Callable[..., Shown]:
    """Run a command in this process."""

    def command(*arguments: str | Path) -> Shown:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Shown(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def started() -> Callable[..., Shown]:
    """Run a command in a new process."""

    def command(*arguments: str | Path, cwd: Path) -> Shown:
        words = [sys.executable, "-m", "ossicle", *map(str, arguments)]
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
        return Shown(done.returncode, done.stdout, done.stderr)

    return command


@pytest.fixture(scope="session")
def finished(program: Program, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shown]:
    """A short run of the experiment of the one-file tokenizer: its folder, and the result of the command."""
    folder = tmp_path_factory.mktemp("finished")
    encoder = "{type: beats, layers: 1, width: 32, feed_forward: 32, heads: 2, patch_width: 16}"
    overrides = [
        f"corpus={{type: folder, path: {tones}, labels: folders}}",
        "front_end.mel_bins=32",
        f"encoder={encoder}",
        "encoder.conv_position_kernel=8",
        "pretrain.steps=6",
        "pretrain.batch_seconds=4",
        "pretrain.warmup_steps=1",
        "pretrain.log_every=2",
        "pretrain.checkpoint_every=2",
        "evaluate=[linear_probe, knn_probe]",
    ]
    (folder / "own.yaml").write_text(f"base: {ROOT / 'examples' / 'sign_hash.yaml'}\nname: own\n")
    done = program("run", "own.yaml", *overrides, cwd=folder, COLUMNS="200")
    return folder, Shown(done.returncode, done.stdout, done.stderr)
