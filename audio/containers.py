"""Find truncated RIFF (wav) and FORM (aiff) files by comparing the size in the header with the size of the file.

libsndfile corrects a header that states more samples than the file holds, and does not report it. Hence this module
reads the chunk sizes from the bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_BYTE_ORDERS = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}
_SOUND_CHUNKS = (b"data", b"SSND")
# Programs that write into a pipe cannot go back to write the size, and state one near 2 or 4 GiB.
_UNKNOWN_FROM = 0x7FFFF000


def missing_bytes(path: Path) -> int:
    """Count the bytes of sound that the header states beyond the end of the file.

    Returns 0 for other formats and for streamed files, which state no size.
    """
    with path.open("rb") as file:
        order = _BYTE_ORDERS.get(file.read(4))
        if order is None:
            return 0
        file.seek(12)
        end = _end_of_sound(file, order)
    return max(0, end - path.stat().st_size)


def _end_of_sound(file: BinaryIO, order: str) -> int:
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack(f"{order}4sI", head)
        if name in _SOUND_CHUNKS:
            return 0 if size >= _UNKNOWN_FROM else file.tell() + size
        file.seek(size + size % 2, 1)
    return 0
