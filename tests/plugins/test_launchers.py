"""Launchers: functions in other processes, on this machine and by submitit."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossicle.core.errors import OssicleError
from ossicle.core.launching import Job
from ossicle.plugins.launchers import Local, LocalConfig, Slurm, SlurmConfig

PATIENCE = 120.0


def over(job: Job) -> bool:
    until = time.monotonic() + PATIENCE
    while not job.done() and time.monotonic() < until:
        time.sleep(0.05)
    return job.done()


@pytest.fixture
def local() -> Iterator[Local]:
    launcher = Local(LocalConfig(), jobs=2)
    yield launcher
    launcher.close()


def test_a_process_serves_one_function_after_another_and_is_replaced_when_it_dies(local: Local) -> None:
    first = local.submit("pid", os.getpid)
    assert over(first)
    process = first.result()
    assert process != os.getpid()
    again = local.submit("pid", os.getpid)
    assert again.result() == process
    wrong = local.submit("sqrt", math.sqrt, -1.0)
    with pytest.raises(OssicleError, match="ValueError: math domain error"):
        wrong.result()
    dead = local.submit("kill", signal.raise_signal, signal.SIGKILL)
    with pytest.raises(OssicleError, match=r"its process was killed \(SIGKILL\); if it was for want of memory"):
        dead.result()
    threads = local.submit("threads", os.getenv, "OMP_NUM_THREADS")
    assert threads.result() == os.environ.get("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // 2)))
    assert local.submit("pid", os.getpid).result() != process


def test_a_job_can_be_cancelled(local: Local) -> None:
    ready = local.submit("pid", os.getpid)
    ready.result()
    job = local.submit("sleep", time.sleep, 600.0)
    time.sleep(0.2)
    assert not job.done()
    job.cancel()
    assert over(job)
    with pytest.raises(OssicleError, match="its process"):
        job.result()


def test_submitit_runs_functions_tells_of_failures_and_can_be_cancelled(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    config = SlurmConfig(executor="local", hours=0.5, memory_gib=2, options={"partition": "gpu"})
    launcher = Slurm(config, folder=tmp_path)
    sound, failing = launcher.submit("sqrt", math.sqrt, 9.0), launcher.submit("sqrt", math.sqrt, -1.0)
    sleeping = launcher.submit("sleep", time.sleep, 600.0)
    assert over(sound)
    assert sound.result() == 3.0
    assert over(failing)
    with pytest.raises(OssicleError, match="ended without a result"):
        failing.result()
    sleeping.cancel()
    assert over(sleeping)
    launcher.close()


def test_a_job_whose_time_is_up_is_queued_again_with_its_arguments() -> None:
    pytest.importorskip("submitit")
    from ossicle.plugins.launchers import _Requeued

    delayed = _Requeued(math.sqrt).checkpoint(9.0)
    assert delayed.function(*delayed.args) == 3.0


def test_a_job_is_queued_again_as_often_as_its_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OssicleError, match=r"cannot reach the cluster: .*or use `launcher: local`"):
        Slurm(SlurmConfig(), folder=tmp_path)
    (tmp_path / "srun").touch(mode=0o755)
    assert Slurm(SlurmConfig(), folder=tmp_path)._executor._executor.max_num_timeout > 1000


def test_without_submitit_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        OssicleError, match=r"launcher `slurm` needs submitit: `pip install 'ossicle\[slurm\]'`, or use"
    ):
        Slurm(SlurmConfig(), folder=tmp_path)
