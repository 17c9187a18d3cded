"""Freed memory stays in the process for the next tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ossicle.training.memory import keep_freed_memory

PAGE_FAULTS = """
import resource, sys, torch
from ossicle.training.memory import keep_freed_memory
keep_freed_memory()
faults = []
for _ in range(40):
    torch.ones(2**22)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[-8])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has an option to keep memory")
def test_large_tensors_reuse_freed_memory() -> None:
    assert _page_faults({}) < 1000
    # The settings of the environment take precedence.
    assert _page_faults({"MALLOC_MMAP_THRESHOLD_": "131072"}) > 7 * 4096


def _page_faults(tuning: dict[str, str]) -> int:
    """Count the page faults of seven tensors of 16 MiB, after enough others for a stable heap."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS], env=environment | tuning, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.parametrize(
    ("limit", "expected"), [(2**40, [(-3, 2**30), (-1, 2**30)]), (2**25, [(-3, 2**30), (-3, 2**25), (-1, 2**30)])]
)
def test_older_versions_of_glibc_get_a_lower_threshold(
    monkeypatch: pytest.MonkeyPatch, limit: int, expected: list[tuple[int, int]]
) -> None:
    options: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        options.append((option, value))
        return int(option != -3 or value <= limit)

    monkeypatch.setattr("ossicle.training.memory.ctypes.CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    for name in [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]:
        monkeypatch.delenv(name)
    keep_freed_memory()
    assert options == expected
