"""Report a full disk as one error that names the disk, also if a library replaced the system's error.

Notable choices:

- The chain of causes is searched, not a list of exception types. fairseq2 raises an error about unpicklable objects
  from `ENOSPC`, and other libraries do similar things.
- Libraries that drop the system's error number are recognised by their text.
- An error on an open file does not contain its name. The caller passes the folder that it writes to.
- A background thread with a full disk, such as TensorBoard's writer, prints no traceback.
"""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import DiskFullError, OssicleError

_REASONS = {errno.ENOSPC: "No space left", errno.EDQUOT: "Disk quota exceeded"}
_RUST = re.compile(r"\(os error (\d+)\)")
_SHORT_WRITE = re.compile(r"^\d+ requested and \d+ written|PytorchStreamWriter failed writing")
"""Messages of NumPy's `tofile` and torch's zip writer."""


@contextmanager
def naming_full_disk(folder: Path | None) -> Iterator[None]:
    """Turn any error that a full disk causes within the block into a `DiskFullError`.

    Args:
        folder: the folder that the block writes to, which need not exist; None if unknown

    Raises:
        DiskFullError: if the disk is full, or the user's quota is used up
    """
    with _quiet_threads() as in_threads:
        try:
            yield
        except OssicleError:
            raise
        except Exception as error:
            if not _is_full_disk(error):
                raise
            raise _disk_full(error, folder) from error
    for in_thread in in_threads:
        raise _disk_full(in_thread, folder) from in_thread


@contextmanager
def _quiet_threads() -> Iterator[list[BaseException]]:
    """Collect the errors of threads because of a full disk, instead of printing them."""
    collected: list[BaseException] = []
    before = threading.excepthook

    def collect(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and _is_full_disk(arguments.exc_value):
            collected.append(arguments.exc_value)
        else:
            before(arguments)

    threading.excepthook = collect
    try:
        yield collected
    finally:
        threading.excepthook = before


def _is_full_disk(error: BaseException) -> bool:
    return any(_number(one) in _REASONS for one in _chain(error))


def _disk_full(error: BaseException, folder: Path | None) -> DiskFullError:
    cause = next(one for one in _chain(error) if _number(one) in _REASONS)
    place = Path(cause.filename) if isinstance(cause, OSError) and cause.filename else folder
    disk = "a disk" if place is None else f"the disk mounted on {_mount_point(place)}, which holds {place}"
    return DiskFullError(f"{_REASONS[_number(cause)]} on {disk}: free some space there, and run the same command again")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _number(error: BaseException) -> int:
    """Return the system's number of an error; 0 if there is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if (found := _RUST.search(str(error))) is not None:
        return int(found[1])
    return errno.ENOSPC if _SHORT_WRITE.search(str(error)) else 0


def _mount_point(path: Path) -> Path:
    absolute = path.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.is_mount())
