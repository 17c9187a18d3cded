"""`torchrun … -m ossicle run`: two processes train together and print one output."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ossicle.cli import main

STOPPER = '''
"""Stops this program after the step that the environment variable STOP names."""
import os, signal
import ossicle

@ossicle.hookimpl
def ossicle_step_end(stage, step, metrics):
    if os.environ.get("STOP") == str(step):
        signal.raise_signal(signal.SIGTERM)
'''


@pytest.mark.slow
@pytest.mark.usefixtures("own_plugins")
def test_torchrun_trains_and_stops_and_one_process_continues(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    tiny.write_text(tiny.read_text() + "plugins: [./stopper.py]\n")
    arguments = ["run", str(tiny), "--out", str(tmp_path / "runs"), "evaluate=[]"]

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ossicle"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("STOP", "2")
    stopped = subprocess.run([*torchrun, *arguments], capture_output=True, text=True, timeout=600)
    assert stopped.returncode != 0
    assert stopped.stdout.count("iteration 1/pretrain") == 1
    message = "stopped after step 3 of 6; a checkpoint is kept. To continue, run the same command again."
    assert stopped.stderr.count(message) == 1
    assert "ossicle/" not in stopped.stderr.replace(str(tmp_path), "")  # no traceback of Ossicle

    capsys.readouterr()
    assert main(arguments) == 2
    assert "contains checkpoints of 2 processes under ddp" in capsys.readouterr().err
    monkeypatch.setenv("STOP", "4")
    assert main([*arguments, "--elastic"]) == 130
    assert "stopped after step 5 of 6" in capsys.readouterr().err
