"""Collect the messages that a decoder prints to C's `stderr`.

libsndfile's MP3 decoder, mpg123, prints a line for each damaged frame. libsndfile has no option that silences it
(https://github.com/libsndfile/libsndfile/issues/958).

Notable choices:

- The C variable `stderr` is replaced while a recording is read, not file descriptor 2. Python, C++ and child processes
  write to the descriptor, so progress bars, logs and tracebacks are not affected. The GNU C library documents that the
  variable may be set. With any other C library the messages appear as before.
- Each line belongs to the recording that the printing thread reads, because a decoder prints in the thread that calls
  it. Lines from all other threads are passed on to descriptor 2.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_STDERR = 2
_UNBUFFERED = 2
_SOURCE = re.compile(r"^\[[^\]]*\] ")


@dataclass
class DecoderNotes:
    """Messages that a decoder printed about one recording.

    Attributes:
        count: number of lines
        first: the first line, without its position in the decoder's source and without a full stop
    """

    count: int = 0
    first: str = ""

    def add(self, text: str) -> None:
        """Add the lines of a message."""
        for line in filter(None, map(str.strip, text.splitlines())):
            self.count += 1
            self.first = self.first or _SOURCE.sub("", line).rstrip(".")

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        return f"the decoder printed {self.count:,} line{'s' if self.count > 1 else ''}, the first: {self.first}"


@contextmanager
def collected_into(notes: DecoderNotes) -> Iterator[None]:
    """Collect what C code prints to `stderr` in this thread inside the `with` block."""
    outer = getattr(_thread, "notes", None)
    _thread.notes = notes
    if _stream is not None:
        _stream.begin()
    try:
        yield
    finally:
        if _stream is not None:
            _stream.end()
        _thread.notes = outer


_thread = threading.local()
_Write = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def _collect_or_pass_on(_: int | None, data: int, size: int) -> int:
    printed = ctypes.string_at(data, size)
    notes: DecoderNotes | None = getattr(_thread, "notes", None)
    if notes is not None:
        notes.add(printed.decode(errors="replace"))
    else:
        with suppress(OSError):
            os.write(_STDERR, printed)
    return size


_write = _Write(_collect_or_pass_on)


class _CookieFunctions(ctypes.Structure):
    """glibc's `cookie_io_functions_t`."""

    _fields_ = (
        ("read", ctypes.c_void_p),
        ("write", _Write),
        ("seek", ctypes.c_void_p),
        ("close", ctypes.c_void_p),
    )


class _Stream:
    """A C stream that calls `_write`. It replaces C's `stderr` while any thread collects messages."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        libc.fopencookie.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _CookieFunctions]
        libc.fopencookie.restype = ctypes.c_void_p
        libc.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
        self._stderr = ctypes.c_void_p.in_dll(libc, "stderr")
        self._original = self._stderr.value
        self._own = libc.fopencookie(None, b"w", _CookieFunctions(write=_write))
        libc.setvbuf(self._own, None, _UNBUFFERED, 0)
        self._lock = threading.Lock()
        self._users = 0
        atexit.register(self._restore)  # `_write` must not be called when Python has ended

    def begin(self) -> None:
        with self._lock:
            if self._users == 0:
                self._original = self._stderr.value
                self._stderr.value = self._own
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._restore()

    def _restore(self) -> None:
        self._stderr.value = self._original


def _new_stream() -> _Stream | None:
    libc = ctypes.CDLL(None)
    # With other C libraries, `stderr` may be a constant.
    return _Stream(libc) if hasattr(libc, "gnu_get_libc_version") else None


_stream = _new_stream()
