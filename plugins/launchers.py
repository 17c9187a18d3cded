"""Launchers: where the cells of an ablation run, on this machine or on a SLURM cluster. Need no torch.

Notable choices: on this machine a process serves one cell after another, for starting one takes seconds, and is
replaced when it dies; it follows its parent, so that nothing goes on when that is killed. On a cluster every cell is a
job of its own, which submitit queues again when its time is up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ossicle.core.catalog import Catalog
from ossicle.core.config import Config
from ossicle.core.errors import OssicleError
from ossicle.core.hooks import hookimpl
from ossicle.core.launching import Job, Launcher, end_with_parent

THREADS = "OMP_NUM_THREADS"
PATIENCE = 10.0
"""Seconds that an idle process has to end."""


class LocalConfig(Config):
    """Processes on this machine; several share out its cores."""


class Local(Launcher):
    """Keep a process for each of the functions that run at once."""

    def __init__(self, config: LocalConfig, jobs: int = 1) -> None:
        self._threads = str(max(1, len(os.sched_getaffinity(0)) // jobs)) if jobs > 1 else None
        self._idle: list[_Worker] = []
        self._busy: list[_LocalJob] = []

    def submit(self, name: str, function: Callable[..., Any], *arguments: Any) -> Job:
        """Hand a function to an idle process, or to a new one."""
        self._settle()
        if not self._idle:
            self._idle.append(_Worker(self._threads))
        job = _LocalJob(self._idle[-1], function, arguments)
        self._idle.pop()
        self._busy.append(job)
        return job

    def close(self) -> None:
        """End all processes; those that are idle go by themselves."""
        self._settle()
        for job in self._busy:
            job.worker.end(at_once=True)
        for worker in self._idle:
            worker.end()

    def _settle(self) -> None:
        over = [job for job in self._busy if job.done()]
        self._busy = [job for job in self._busy if job not in over]
        self._idle += [job.worker for job in over if job.worker.is_alive]


class _Worker:
    """A process that calls one function after another."""

    def __init__(self, threads: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        with _threads_of_children(threads):
            self.process.start()
        theirs.close()

    @property
    def is_alive(self) -> bool:
        return self.process.is_alive()

    def end(self, *, at_once: bool = False) -> None:
        if at_once:
            self.process.kill()
        self.connection.close()
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


class _LocalJob:
    """A function that a process is busy with."""

    def __init__(self, worker: _Worker, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.worker = worker
        self._answer: tuple[bool, Any] | None = None
        worker.connection.send((function, arguments))

    def done(self) -> bool:
        if self._answer is None and (self.worker.connection.poll() or not self.worker.is_alive):
            try:
                self._answer = self.worker.connection.recv()
            except (EOFError, OSError):
                self.worker.process.join(PATIENCE)
                self._answer = False, _how_it_died(self.worker.process.exitcode)
        return self._answer is not None

    def result(self) -> Any:
        while not self.done():
            wait([self.worker.connection, self.worker.process.sentinel])
        assert self._answer is not None
        sound, answer = self._answer
        if not sound:
            raise OssicleError(answer)
        return answer

    def cancel(self) -> None:
        self.worker.process.terminate()


def _how_it_died(exitcode: int | None) -> str:
    if exitcode == -signal.SIGKILL:
        return (
            "its process was killed (SIGKILL); if it was for want of memory, take a smaller encoder, shorter "
            "`crop_seconds` or fewer jobs at once"
        )
    if exitcode is not None and exitcode < 0:
        return f"its process was killed ({signal.Signals(-exitcode).name})"
    return f"its process ended with exit code {exitcode}"


@contextmanager
def _threads_of_children(threads: str | None) -> Iterator[None]:
    """Let processes that start inside compute on so many threads, unless the user has said on how many."""
    if threads is None or THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = threads
    try:
        yield
    finally:
        del os.environ[THREADS]


def _serve(connection: Connection) -> None:
    # Ctrl-C reaches all processes of a terminal: whoever started this one decides.
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
    """Whom submitit hands jobs to: the cluster, or to try it out processes of this machine."""

    hours: float = Field(default=12.0, gt=0)
    """Time limit of a job; when it is up, the job is queued again and goes on."""

    cpus: int = Field(default=4, ge=1)
    """Processor cores of a job."""

    gpus: int = Field(default=0, ge=0)
    """Accelerators of a job."""

    memory_gib: int | None = Field(default=None, ge=1)
    """Memory of a job in GiB; the cluster's default when absent."""

    options: dict[str, str | int] = Field(default_factory=dict)
    """Further options of `sbatch` by their long names, such as `{partition: gpu, account: lab}`."""


_MOST_JOBS = 10**6
"""How often a function is queued again; submitit would give up after three times."""


class Slurm(Launcher):
    """Submit every function as a job of its own."""

    def __init__(self, config: SlurmConfig, folder: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise OssicleError(
                "launcher `slurm` needs submitit: `pip install 'ossicle[slurm]'`, or use `launcher: local`"
            ) from None
        try:
            self._executor = submitit.AutoExecutor(
                folder=folder / "slurm", cluster=config.executor, slurm_max_num_timeout=_MOST_JOBS
            )
        except RuntimeError as error:
            raise OssicleError(
                f"launcher `slurm` cannot reach the cluster: {error} Start the ablation where jobs are submitted, or "
                "use `launcher: local`"
            ) from None
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
        job = _SlurmJob(self._executor.submit(_Requeued(function), *arguments))
        self._jobs.append(job)
        return job

    def close(self) -> None:
        """Cancel what is still queued or running."""
        for job in self._jobs:
            if not job.done():
                job.cancel()


class _Requeued:
    """A function that is called anew, with the same arguments, when the time of its job is up."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


class _SlurmJob:
    """A job of submitit's, whose failure is one of ours."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def done(self) -> bool:
        return bool(self._job.done())

    def result(self) -> Any:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            return self._job.result()
        except (FailedJobError, UncompletedJobError) as error:
            raise OssicleError(f"job {self._job.job_id} ended without a result: {error}") from error

    def cancel(self) -> None:
        self._job.cancel()


@hookimpl
def ossicle_register(catalog: Catalog) -> None:
    """Offer the launchers."""
    catalog.add("launcher", "local", Local, config=LocalConfig)
    catalog.add("launcher", "slurm", Slurm, config=SlurmConfig)
