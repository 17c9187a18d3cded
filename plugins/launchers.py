"""Launchers, which run the cells of an ablation on this machine or on a SLURM cluster. Need no torch.

Notable choices:

- On this machine a process runs one cell after another, because starting one takes seconds. It is replaced when it
  dies or is cancelled, and it ends when its parent is killed.
- On a cluster every cell is a separate job, which submitit queues again when its time limit is reached.
- A signal is not enough to cancel a submitit job, because submitit drops a SIGTERM that comes before the function
  starts. Cancelling therefore writes a flag file first, and the job looks for it after it has installed its handler.
- submitit itself sends SIGINT to jobs on this machine. They ignore it if the ablation was started in the background.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from pydantic import Field

from ossicle.core.catalog import Catalog
from ossicle.core.config import Config
from ossicle.core.errors import OssicleError
from ossicle.core.hooks import hookimpl
from ossicle.plugins.launcher_interface import Job, Launcher, end_with_parent

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

THREADS = "OMP_NUM_THREADS"
PATIENCE = 10.0
"""Seconds after which a process that does not end is killed."""


class LocalConfig(Config):
    """Processes on this machine, which share its cores."""


class Local(Launcher):
    """Runs functions in processes on this machine, one for each function that runs at once."""

    def __init__(self, config: LocalConfig, jobs: int = 1) -> None:
        self._threads = str(max(1, len(os.sched_getaffinity(0)) // jobs)) if jobs > 1 else None
        self._idle: list[_Worker] = []
        self._busy: list[_LocalJob] = []

    def submit(self, name: str, function: Callable[..., Any], *arguments: Any) -> Job:
        """Send a function to an idle process, or to a new one."""
        self._settle()
        if not self._idle:
            self._idle.append(_Worker(self._threads))
        job = _LocalJob(self._idle[-1], function, arguments)
        self._idle.pop()
        self._busy.append(job)
        return job

    def close(self) -> None:
        """End all processes. Idle ones end when their connection is closed, and busy ones are killed."""
        self._settle()
        for job in self._busy:
            job.worker.end(at_once=True)
        for worker in self._idle:
            worker.end()
        self._busy, self._idle = [], []

    def _settle(self) -> None:
        over = [job for job in self._busy if job.done()]
        self._busy = [job for job in self._busy if job not in over]
        for job in over:
            if job.worker.is_usable:
                self._idle.append(job.worker)
            else:
                job.worker.end()


class _Worker:
    """A process that calls one function after another."""

    def __init__(self, threads: str | None) -> None:
        import multiprocessing  # here, because every command loads this plugin

        self._cancelled = False
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        with _threads_of_children(threads):
            self.process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    @property
    def is_usable(self) -> bool:
        """Whether the process can run another function. After a cancellation it cannot: the signal may still arrive."""
        return self.is_alive and not self._cancelled

    def cancel(self) -> None:
        """Interrupt the function by SIGTERM. A process that has not installed its handler yet dies instead."""
        if not self._cancelled:
            self._cancelled = True
            self.process.terminate()

    def end(self, *, at_once: bool = False) -> None:
        if at_once:
            self.process.kill()
        self.connection.close()
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


class _LocalJob:
    """A function that a process is running."""

    def __init__(self, worker: _Worker, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.worker = worker
        self._answer: tuple[bool, Any] | None = None
        worker.connection.send((function, arguments))

    def done(self) -> bool:
        if self._answer is None and (not self.worker.is_alive or self.worker.connection.poll()):
            try:
                self._answer = self.worker.connection.recv()
            except (EOFError, OSError):
                self.worker.process.join(PATIENCE)
                self._answer = False, _how_it_died(self.worker.process.exitcode)
        return self._answer is not None

    def result(self) -> Any:
        from multiprocessing.connection import wait  # here, because every command loads this plugin

        while not self.done():
            wait([self.worker.connection, self.worker.process.sentinel])
        assert self._answer is not None
        sound, answer = self._answer
        if not sound:
            raise OssicleError(answer)
        return answer

    def cancel(self) -> None:
        # A worker whose function is over may already run another one.
        if not self.done():
            self.worker.cancel()


def _how_it_died(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return (
            "its process was killed (SIGKILL); if it ran out of memory, use a smaller encoder, shorter `crop_seconds` "
            "or fewer jobs at once"
        )
    if exitcode is not None and exitcode < 0:
        return f"its process was killed ({signal.Signals(-exitcode).name})"
    return f"its process ended with exit code {exitcode}"


@contextmanager
def _threads_of_children(threads: str | None) -> Iterator[None]:
    """Set the number of threads of processes that start inside the block, unless the user has set it."""
    if threads is None or THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = threads
    try:
        yield
    finally:
        del os.environ[THREADS]


def _serve(connection: Connection) -> None:
    # Ctrl-C reaches all processes of a terminal, but only the parent decides whether this one stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    end_with_parent()
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            function, arguments = connection.recv()
            connection.send(_called(function, arguments))


def _called(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(*arguments)
    except Exception as error:
        return False, str(error) if isinstance(error, OssicleError) else f"{type(error).__name__}: {error}"


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class SlurmConfig(Config):
    """Jobs of a SLURM cluster, by submitit: `pip install 'ossicle[slurm]'`. All nodes must see the runs' folder."""

    executor: Literal["slurm", "local"] = "slurm"
    """Where submitit runs jobs: on the cluster (`slurm`), or in processes on this machine (`local`) for a trial."""

    hours: float = Field(default=12.0, gt=0)
    """Time limit of a job. A job that reaches it is queued again and continues."""

    cpus: int = Field(default=4, ge=1)
    """Processor cores of a job."""

    gpus: int = Field(default=0, ge=0)
    """Accelerators of a job."""

    memory_gib: int | None = Field(default=None, ge=1)
    """Memory of a job in GiB. By default that of the cluster."""

    options: dict[str, str | int] = Field(default_factory=dict)
    """Further options of `sbatch` by their long names, such as `{partition: gpu, account: lab}`."""


MOST_JOBS = 10**6
"""How often a function is queued again. submitit's default is three times."""

ASK_EVERY = 5.0
"""Seconds between two queries of the cluster about a cancelled job."""


class Slurm(Launcher):
    """Submits every function as a separate job."""

    def __init__(self, config: SlurmConfig, folder: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise OssicleError(
                "launcher `slurm` needs submitit: `pip install 'ossicle[slurm]'`, or use `launcher: local`"
            ) from None
        try:
            self._executor = submitit.AutoExecutor(
                folder=folder / "slurm", cluster=config.executor, slurm_max_num_timeout=MOST_JOBS
            )
        except RuntimeError as error:
            raise OssicleError(
                f"launcher `slurm` cannot reach the cluster: {error} Start the ablation where jobs are submitted, or "
                "use `launcher: local`"
            ) from None
        self._folder = (folder / "slurm").absolute()
        self._executor.update_parameters(
            timeout_min=max(1, round(60 * config.hours)),
            cpus_per_task=config.cpus,
            gpus_per_node=config.gpus,
            slurm_additional_parameters=dict(config.options),
        )
        if config.memory_gib is not None:
            self._executor.update_parameters(mem_gb=config.memory_gib)
        self._jobs: list[_SlurmJob] = []

    def submit(self, name: str, function: Callable[..., Any], *arguments: Any) -> Job:
        """Queue a job."""
        self._executor.update_parameters(name=name)
        flag = self._folder / f"{uuid4().hex}.cancelled"
        job = _SlurmJob(self._executor.submit(_Submitted(function, flag), *arguments), flag)
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """Cancel jobs that are queued or running. Processes on this machine have ended afterwards."""
        running = [job for job in self._jobs if not job.done()]
        for job in running:
            job.cancel()
        for job in running:
            job.end()


class _Submitted:
    """A function in a job. It stops when the job is cancelled, and is queued again at the job's time limit."""

    def __init__(self, function: Callable[..., Any], flag: Path) -> None:
        self.function = function
        self.flag = flag

    def __call__(self, *arguments: Any) -> Any:
        # The order matters: a signal before the handler is installed comes after the flag was written.
        signal.signal(signal.SIGTERM, self._stop_if_cancelled)
        self._stop_if_cancelled()
        return self.function(*arguments)

    def _stop_if_cancelled(self, *_: object) -> None:
        # SLURM also sends SIGTERM when it preempts a job; submitit then queues the job again.
        if self.flag.exists():
            raise KeyboardInterrupt

    def checkpoint(self, *arguments: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class _SlurmJob:
    """A job of submitit, with errors of Ossicle."""

    def __init__(self, job: Any, flag: Path) -> None:
        self._job = job
        self._flag = flag
        self._process: subprocess.Popen[bytes] | None = getattr(job, "_process", None)
        """submitit's controller of a job on this machine, whose child runs the function."""
        self._cancelled = False
        self._asked = -math.inf

    def done(self) -> bool:
        return bool(self._job.done(force_check=self._must_ask()))

    def _must_ask(self) -> bool:
        """Return whether to query the cluster now. submitit does so every ten minutes, too rarely for a cancelled
        job."""
        now = time.monotonic()
        due = self._cancelled and now - self._asked > ASK_EVERY
        if due:
            self._asked = now
        return due

    def result(self) -> Any:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        # submitit would wait 15 s for a result that a cancelled job does not write.
        if self._cancelled and self.done() and not self._job.paths.result_pickle.exists():
            raise OssicleError(f"job {self._job.job_id} was cancelled before it had a result")
        try:
            return self._job.result()
        except (FailedJobError, UncompletedJobError) as error:
            raise OssicleError(f"job {self._job.job_id} ended without a result: {error}") from error

    def cancel(self) -> None:
        if self._cancelled or self.done():
            return
        self._cancelled = True
        self._flag.touch()
        if self._process is None:
            self._job.cancel(check=False)
        else:
            # submitit would send SIGINT and kill the function a second later, before it has written a checkpoint.
            self._process.terminate()

    def end(self) -> None:
        """Wait for a process on this machine, and kill it if it does not end. SLURM kills cancelled jobs itself."""
        if self._process is None:
            return
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            _kill_tree(self._process)


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    import psutil

    parent = psutil.Process(process.pid)
    parent.suspend()  # so that it does not start another child meanwhile
    for child in parent.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait()


@hookimpl
def ossicle_register_part_kinds(catalog: Catalog) -> None:
    """Add launchers as a kind of part."""
    catalog.add_part_kind("launcher", Launcher)


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the launchers."""
    catalog.add("launcher", "local", Local, config=LocalConfig)
    catalog.add("launcher", "slurm", Slurm, config=SlurmConfig)
