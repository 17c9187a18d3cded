"""Columns of a table that grow on disk, so that a table of any length needs little memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import numpy.typing as npt

ROWS_AT_ONCE = 2**14

Columns = Mapping[str, npt.NDArray[Any]]


class SpooledColumns:
    """Columns of equal length that rows are appended to.

    Args:
        folder: folder for a file of each column; the caller removes it
        name: prefix of the file names
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.rows = 0
        self._folder, self._name = folder, name
        self._columns: dict[str, _Column] = {}

    def append(self, columns: Columns) -> int:
        """Append rows, always with the same columns; return their number."""
        for name, values in columns.items():
            if name not in self._columns:
                self._columns[name] = _Column(self._folder / f"{self._name}_{name}", values)
            self._columns[name].append(values)
        added = len(next(iter(columns.values()))) if columns else 0
        self.rows += added
        return added

    def chunks(self) -> Iterator[tuple[int, Columns]]:
        """Yield chunks of consecutive rows with the index of their first row; at least one if there are columns."""
        for start in range(0, max(self.rows, 1) if self._columns else 0, ROWS_AT_ONCE):
            rows = min(ROWS_AT_ONCE, self.rows - start)
            yield start, {name: column.read(start, rows) for name, column in self._columns.items()}

    def write_npy(self, archive: ZipFile, prefix: str = "") -> None:
        """Write each column as an array of an `.npz`."""
        for name, column in self._columns.items():
            with npy_member(archive, f"{prefix}{name}") as member:
                header = {"descr": column.dtype.str, "fortran_order": False, "shape": (self.rows, *column.shape)}
                np.lib.format.write_array_header_1_0(member, header)
                for start in range(0, self.rows, ROWS_AT_ONCE):
                    member.write(column.read(start, min(ROWS_AT_ONCE, self.rows - start)).tobytes())


class _Column:
    """One column as raw bytes in a file. The first rows determine type and shape."""

    def __init__(self, path: Path, like: npt.NDArray[Any]) -> None:
        self.dtype, self.shape = like.dtype, like.shape[1:]
        self._path = path
        self._row_bytes = self.dtype.itemsize * int(np.prod(self.shape))

    def append(self, values: npt.NDArray[Any]) -> None:
        with self._path.open("ab") as file:
            file.write(np.ascontiguousarray(values, dtype=self.dtype).tobytes())

    def read(self, start: int, rows: int) -> npt.NDArray[Any]:
        with self._path.open("rb") as file:
            file.seek(start * self._row_bytes)
            values = np.frombuffer(file.read(rows * self._row_bytes), dtype=self.dtype)
        return values.reshape(rows, *self.shape)


def new_npz(path: Path) -> ZipFile:
    """Open a compressed archive of arrays for writing."""
    return ZipFile(path, "w", ZIP_DEFLATED)


def npy_member(archive: ZipFile, name: str) -> IO[bytes]:
    """Open an array of the archive for writing."""
    return archive.open(f"{name}.npy", "w", force_zip64=True)
