"""Launchers: functions in other processes, on this machine and by submitit."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from ossicle.core.errors import OssicleError
from ossicle.plugins import launchers
from ossicle.plugins.launcher_interface import Job
from ossicle.plugins.launchers import Local, LocalConfig, Slurm, SlurmConfig, _Submitted

PATIENCE = 120.0
MARK = "OSSICLE_TEST_LAUNCHER"


def over(job: Job) -> bool:
    until = time.monotonic() + PATIENCE
    while not job.done() and time.monotonic() < until:
        time.sleep(0.05)
    return job.done()


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that no process of a launcher is left, not even an orphan. Processes inherit an environment variable."""
    mark = uuid4().hex
    monkeypatch.setenv(MARK, mark)
    yield
    until = time.monotonic() + 5
    while (left := [process for process in psutil.process_iter() if is_marked(process, mark)]) and (
        time.monotonic() < until
    ):
        time.sleep(0.05)
    for process in left:
        process.kill()
    assert not left


def is_marked(process: psutil.Process, mark: str) -> bool:
    """Return whether this test has started a process. The resource tracker of multiprocessing may stay."""
    with suppress(psutil.Error):
        mine = process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
        return mine and "resource_tracker" not in " ".join(process.cmdline())
    return False


@pytest.fixture
def local() -> Iterator[Local]:
    launcher = Local(LocalConfig(), jobs=2)
    yield launcher
    launcher.close()


@pytest.fixture
def submitit_local(tmp_path: Path) -> Iterator[Slurm]:
    pytest.importorskip("submitit")
    config = SlurmConfig(executor="local", hours=0.5, memory_gib=2, options={"partition": "gpu"})
    launcher = Slurm(config, folder=tmp_path)
    yield launcher
    launcher.close()


def test_a_process_runs_several_functions_and_is_replaced_when_it_dies(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
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
    with pytest.raises(OssicleError, match=r"its process was killed \(SIGKILL\); if it ran out of memory"):
        dead.result()
    threads = local.submit("threads", os.getenv, "OMP_NUM_THREADS")
    assert threads.result() == str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert local.submit("pid", os.getpid).result() != process


@contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


MOMENTS = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0)
"""Seconds after which jobs are cancelled: while Python starts, while it imports, while the function runs."""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "submitit_local"])
@pytest.mark.parametrize("interrupt", [signal.SIG_IGN, signal.default_int_handler], ids=["background", "foreground"])
def test_a_job_can_be_cancelled_at_any_moment(launcher: str, interrupt: Any, request: pytest.FixtureRequest) -> None:
    jobs = request.getfixturevalue(launcher)
    # Commands that a shell starts in the background ignore SIGINT, and so do their jobs.
    with handling(signal.SIGINT, interrupt):
        submitted = [(moment, jobs.submit("sleep", time.sleep, 600.0)) for moment in MOMENTS]
    started = time.monotonic()
    for moment, job in submitted:
        time.sleep(max(0.0, started + moment - time.monotonic()))
        job.cancel()
    for _, job in submitted:
        assert over(job)
        with pytest.raises(OssicleError, match=r"its process|was cancelled before it had a result"):
            job.result()


def test_cancelling_a_finished_job_does_not_affect_the_next_one(local: Local) -> None:
    first = local.submit("pid", os.getpid)
    assert over(first)
    second = local.submit("sleep", time.sleep, 0.5)
    first.cancel()
    assert second.result() is None
    assert local.submit("pid", os.getpid).result() == first.result()


def test_a_cancelled_process_runs_no_further_function(local: Local, tmp_path: Path) -> None:
    job = local.submit("patient", exec, PATIENT, {"started": tmp_path / "started"})
    wait_for(tmp_path / "started")
    job.cancel()
    job.cancel()
    assert job.result() is None
    assert local.submit("pid", os.getpid).result() != int((tmp_path / "started").read_text())


@pytest.mark.slow
def test_submitit_runs_functions_and_reports_failures(submitit_local: Slurm) -> None:
    sound, failing = submitit_local.submit("sqrt", math.sqrt, 9.0), submitit_local.submit("sqrt", math.sqrt, -1.0)
    assert over(sound)
    assert sound.result() == 3.0
    sound.cancel()
    assert sound.result() == 3.0
    assert over(failing)
    with pytest.raises(OssicleError, match="ended without a result"):
        failing.result()


PATIENT = """
import os, pathlib, time
pathlib.Path(started).write_text(str(os.getpid()))
try:
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(2)
"""
"""A function that needs some time to stop, like one that writes a checkpoint."""

STUBBORN = """
import os, pathlib, time
pathlib.Path(started).write_text(str(os.getpid()))
while True:
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        pass
"""


def wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_cancelled_job_of_submitit_has_time_to_write_a_checkpoint(submitit_local: Slurm, tmp_path: Path) -> None:
    job = submitit_local.submit("patient", exec, PATIENT, {"started": tmp_path / "started"})
    wait_for(tmp_path / "started")
    job.cancel()
    assert over(job)
    assert job.result() is None


@pytest.mark.parametrize("launcher", ["local", "submitit_local"])
def test_closing_ends_a_job_that_does_not_stop(
    launcher: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = request.getfixturevalue(launcher)
    monkeypatch.setattr(launchers, "PATIENCE", 0.5)
    job = jobs.submit("stubborn", exec, STUBBORN, {"started": tmp_path / "started"})
    wait_for(tmp_path / "started")
    jobs.close()
    assert job.done()


def test_a_cancelled_job_does_not_start_even_if_its_signal_was_lost(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    function = _Submitted(math.sqrt, flag)
    with handling(signal.SIGTERM, signal.SIG_DFL):
        assert function(9.0) == 3.0
        signal.raise_signal(signal.SIGTERM)  # as if SLURM preempted the job, which submitit handles
        flag.touch()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            function(9.0)


CLUSTER = {
    "srun": "",
    "sbatch": "echo Submitted batch job 7",
    "scancel": 'touch "$CLUSTER/cancelled-$1"',
    "sacct": """echo asked >> "$CLUSTER/asked"
        echo 'JobID|State|NodeList'
        if [ -e "$CLUSTER/cancelled-7" ]; then echo '7|CANCELLED by 0|'; else echo '7|PENDING|'; fi""",
}
"""The commands of a cluster whose jobs never start."""


def test_a_cancelled_job_of_a_cluster_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CLUSTER", str(tmp_path))
    for name, text in CLUSTER.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    launcher = Slurm(SlurmConfig(), folder=tmp_path)
    job = launcher.submit("sleep", time.sleep, 600.0)
    assert not any(job.done() for _ in range(20))
    job.cancel()
    assert job.done()
    with pytest.raises(OssicleError, match="job 7 was cancelled before it had a result"):
        job.result()
    launcher.close()


def test_a_job_at_its_time_limit_is_queued_again_with_its_arguments(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    delayed = _Submitted(math.sqrt, tmp_path / "flag").checkpoint(9.0)
    with handling(signal.SIGTERM, signal.SIG_DFL):
        assert delayed.function(*delayed.args) == 3.0


def test_a_job_is_queued_again_more_often_than_submitits_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OssicleError, match=r"cannot reach the cluster: .*or use `launcher: local`"):
        Slurm(SlurmConfig(), folder=tmp_path)
    (tmp_path / "srun").touch(mode=0o755)
    assert Slurm(SlurmConfig(), folder=tmp_path)._executor._executor.max_num_timeout > 1000


def test_without_submitit_the_error_states_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        OssicleError, match=r"launcher `slurm` needs submitit: `pip install 'ossicle\[slurm\]'`, or use"
    ):
        Slurm(SlurmConfig(), folder=tmp_path)
