"""Render the clips of a corpus in separate Python processes.

Nothing of the caller is forked (torch's threads, a device), the caller does not need `if __name__ == "__main__"`, and
libraries with hidden state start from their initial state.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...core.errors import CorpusError
from .rendering import RenderedClip, processors


def render(function: str, jobs: Sequence[dict[str, Any]], folder: Path) -> Iterable[RenderedClip]:
    """Render jobs into a folder, as many at once as there are processors.

    Args:
        function: the `package.module:function` that renders one job

    Raises:
        CorpusError: if rendering fails
    """

    def run(job: dict[str, Any]) -> list[RenderedClip]:
        return _in_fresh_process(function, job, folder)

    with ThreadPoolExecutor(processors()) as pool:
        return [clip for clips in pool.map(run, jobs) for clip in clips]


def _in_fresh_process(function: str, job: dict[str, Any], folder: Path) -> list[RenderedClip]:
    paths = os.pathsep.join(path for path in sys.path if path)
    # One thread per process, because there are as many processes as processors.
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    request = json.dumps({"function": function, "folder": str(folder), "job": job})
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.render_worker"],
        input=request,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CorpusError(f"rendering by `{function}` failed:\n{done.stderr.strip()[-2000:]}")
    return [RenderedClip(*clip) for clip in json.loads(done.stdout.splitlines()[-1])]
