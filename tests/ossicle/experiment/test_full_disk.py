"""A full disk is reported as one line that names the disk, for every library that writes."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from fairseq2.io import TensorFileDumper
from fairseq2.runtime.dependency import get_dependency_resolver
from safetensors.torch import save_file

from ossicle.core.errors import ArtifactError, DiskFullError
from ossicle.experiment.full_disk import naming_full_disk

TENSORS = {"weight": torch.zeros(100_000)}


def save_to_open_file(path: Path) -> None:
    with path.open("wb") as file:
        torch.save(TENSORS, file)


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("x" * 100_000),
    "numpy.save": lambda path: np.save(path.with_suffix(".npy"), np.zeros(100_000)),
    "numpy.savez": lambda path: np.savez(path.with_suffix(".npz"), zeros=np.zeros(100_000)),
    "pyarrow": lambda path: pyarrow.parquet.write_table(pyarrow.table({"a": np.arange(100_000)}), path),
    "safetensors": lambda path: save_file(TENSORS, path),
    "torch.save, a path": lambda path: torch.save(TENSORS, path),
    "torch.save, a file": save_to_open_file,
    "fairseq2": lambda path: get_dependency_resolver().resolve(TensorFileDumper).dump(TENSORS, path),
}


def messages(folder: Path) -> dict[str, str]:
    """Collect the message for each writer's error, on a disk that is too small for all of them."""
    found = {}
    for name, write in WRITERS.items():
        try:
            with naming_full_disk(folder / "store"):
                write(folder / "file")
        except DiskFullError as error:
            found[name] = str(error)
        for left in folder.iterdir():
            left.unlink()
    return found


@pytest.mark.slow
def test_the_errors_of_every_library_are_recognised(small_disk: list[str], tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=16k tmpfs "$1" && exec "$2" "$3" "$1"'
    shown = subprocess.run(
        [*small_disk, script, "sh", tmp_path, sys.executable, __file__], capture_output=True, text=True, check=True
    )
    message = (
        f"No space left on the disk mounted on {tmp_path}, which holds {tmp_path / 'store'}: "
        "free some space there, and run the same command again"
    )
    assert json.loads(shown.stdout) == dict.fromkeys(WRITERS, message)


def test_an_exceeded_quota_is_reported_as_quota(tmp_path: Path) -> None:
    message = r"^Disk quota exceeded on the disk mounted on /.*, which holds "
    with pytest.raises(DiskFullError, match=message), naming_full_disk(tmp_path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")


def test_the_file_of_the_error_replaces_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="which holds /other/file: "), naming_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "/other/file")


@pytest.mark.parametrize(
    "error", [ValueError("no luck"), OSError(errno.EIO, "Input/output error"), ArtifactError("is missing")]
)
def test_other_errors_are_not_changed(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, naming_full_disk(tmp_path):
        raise error
    assert caught.value is error


def in_thread(error: Exception) -> None:
    def fail() -> None:
        raise error

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def test_a_full_disk_in_a_thread_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DiskFullError, match="No space left"), naming_full_disk(tmp_path):
        in_thread(OSError(errno.ENOSPC, "No space left on device"))
    assert capsys.readouterr().err == ""


def test_other_errors_of_threads_are_still_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: printed.append(arguments.exc_value))
    error = ValueError("no luck")
    with naming_full_disk(tmp_path):
        in_thread(error)
    assert printed == [error]


if __name__ == "__main__":
    print(json.dumps(messages(Path(sys.argv[1]))))
