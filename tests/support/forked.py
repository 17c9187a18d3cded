"""Processes for tests, forked from one that has made the imports of a training, which take seconds.

Notable choices:

- A fork has the environment, the working folder and the streams that a new process would have.
- What the imports set up once, such as torch's number of threads, is the fork server's: one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, TypeAlias

import pytest

IMPORTED = (
    "soundfile",  # before fairseq2
    "ossicle.benchmarks.inference_works",
    "ossicle.cli",
    "ossicle.report",
    "ossicle.tasks.evaluation.probes",
    "ossicle.tasks.stages.fine_tune",
    "ossicle.training.corpus_training",
)
Program: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
"""What the fixture `program` gives."""

PATIENCE = 600.0
"""Seconds; far more than any of these processes takes."""


class Forking(ForkServerContext):
    """A context of multiprocessing that can replace `spawn`."""

    def Process(self, *, target: Callable[..., Any], args: Sequence[Any] = (), **options: Any) -> ForkServerProcess:  # type: ignore[override]  # noqa: N802
        return ForkServerProcess(target=_in, args=(dict(os.environ), Path.cwd(), target, *args), **options)


def forking() -> Forking:
    """Start the fork server unless it runs."""
    # The fork server ignores a module that it does not find.
    assert all(map(find_spec, IMPORTED))
    multiprocessing.set_forkserver_preload(list(IMPORTED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return Forking()


@contextmanager
def forks() -> Iterator[None]:
    """Let the code inside fork what it would spawn."""
    context = forking()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method: context)
        yield


def run_program(
    *arguments: str | Path, output: Path, script: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Do what `python -m ossicle ARGUMENTS`, or `python SCRIPT ARGUMENTS`, does in the current folder.

    Args:
        output: folder for what it prints
        environment: variables to set
    """
    given = [str(argument) for argument in arguments]
    streams = [output / "out", output / "err"]
    for stream in streams:
        stream.write_text("")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        process = forking().Process(target=_program, args=(script, given, streams))
        process.start()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    out, err = (stream.read_text() for stream in streams)
    return subprocess.CompletedProcess(given, process.exitcode, out, err)


def _in(environment: Mapping[str, str], folder: Path, target: Callable[..., Any], *arguments: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    target(*arguments)


def _program(script: Path | None, arguments: Sequence[str], streams: Sequence[Path]) -> None:
    for descriptor, stream in enumerate(streams, start=1):
        file = os.open(stream, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    sys.argv = [str(script or "ossicle"), *arguments]
    if script is None:
        runpy.run_module("ossicle", run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(script), run_name="__main__")
