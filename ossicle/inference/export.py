"""Embed or tokenize files and folders of audio into one `.npz` or `.parquet`.

A `.parquet` has one row per patch with its token, or one row per embedding of a time column (`scope` is `frame`) and of
a whole clip (`clip`). Rows have the file, the time in seconds and the band in Hz. If a tokenizer gives a patch several
tokens, `token` is a list. An `.npz` has the same columns as arrays, concatenated over the files, with `offsets` to
split them. The names of columns of whole clips start with `clip_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ..audio.corpora.audio_files import SUFFIXES, audio_below
from ..audio.decode import decode_stretches
from ..audio.windows import OVERLAP_SECONDS, WINDOW_SECONDS
from ..core.errors import OssicleError
from ..experiment.output_paths import check_file
from .load import LoadedPart, load
from .spool import Columns, SpooledColumns, new_npz, npy_member

_OfFile = Callable[[LoadedPart, Path, SpooledColumns], Columns]
"""Appends the rows of the time columns or patches of a file, and returns the columns of the whole clip, if any."""


def embed_files(
    part: Path,
    audio: Sequence[Path],
    out: Path,
    *,
    plugins: Sequence[Path] = (),
    window_seconds: float = WINDOW_SECONDS,
    overlap_seconds: float = OVERLAP_SECONDS,
) -> int:
    """Write one vector per clip and one per time column, with start and end in seconds.

    Args:
        window_seconds, overlap_seconds: as in `LoadedPart.embed`

    Returns:
        The number of files.

    Raises:
        OssicleError: if there is no audio, or if `out` does not end in `.npz` or `.parquet` or cannot be written
    """

    def of_file(model: LoadedPart, path: Path, rows: SpooledColumns) -> Columns:
        length = _Length()
        stretches = length.of(decode_stretches(path, model.front_end.sample_rate))
        total, patches = np.zeros(()), 0
        for found in model.embed_stream(stretches, window_seconds=window_seconds, overlap_seconds=overlap_seconds):
            weight = int(found.valid.sum())
            total, patches = total + weight * found.clip.double().numpy(), patches + weight
            times = found.times.numpy()
            rows.append({"embedding": found.frames[0].numpy(), "start": times[:, 0], "end": times[:, 1]})
        end = np.array([length.samples / model.front_end.sample_rate])
        return {"embedding": (total / patches).astype(np.float32), "start": np.zeros(1), "end": end}

    return _export(part, audio, out, plugins, of_file)


def tokenize_files(
    part: Path,
    audio: Sequence[Path],
    out: Path,
    *,
    plugins: Sequence[Path] = (),
    window_seconds: float = WINDOW_SECONDS,
    overlap_seconds: float = OVERLAP_SECONDS,
) -> int:
    """Write the token, or list of tokens, of every patch, with start and end in seconds and band edges in Hz.

    Arguments, result and errors are those of `embed_files`.
    """

    def of_file(model: LoadedPart, path: Path, rows: SpooledColumns) -> Columns:
        stretches = decode_stretches(path, model.front_end.sample_rate)
        for found in model.tokenize_stream(stretches, window_seconds=window_seconds, overlap_seconds=overlap_seconds):
            times, bands = found.times.numpy(), found.bands.numpy()
            columns = {
                "token": found.ids[0].numpy(),
                "start": times[:, 0].repeat(len(bands)),
                "end": times[:, 1].repeat(len(bands)),
                "low_hz": np.tile(bands[:, 0], len(times)),
                "high_hz": np.tile(bands[:, 1], len(times)),
            }
            rows.append(columns)
        return {}

    return _export(part, audio, out, plugins, of_file)


class _Length:
    """Counts the samples of a recording while it is read."""

    def __init__(self) -> None:
        self.samples = 0

    def of(self, stretches: Iterator[npt.NDArray[np.float32]]) -> Iterator[npt.NDArray[np.float32]]:
        for stretch in stretches:
            self.samples += len(stretch)
            yield stretch


def _export(part: Path, audio: Sequence[Path], out: Path, plugins: Sequence[Path], of_file: _OfFile) -> int:
    if out.suffix not in (".npz", ".parquet"):
        raise OssicleError(f"--out must end in .npz or .parquet, but is {out}")
    check_file("--out", out)
    paths = list(_audio_files(audio))
    model = load(part, plugins=plugins)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        clips, rows = SpooledColumns(Path(folder), "clip"), SpooledColumns(Path(folder), "frame")
        offsets = [0]
        for path in paths:
            clips.append(of_file(model, path, rows))
            offsets.append(rows.rows)
        write = _write_npz if out.suffix == ".npz" else _write_parquet
        write(out, np.array([str(path) for path in paths]), np.array(offsets), clips, rows)
    return len(paths)


def _write_npz(
    out: Path, files: npt.NDArray[np.str_], offsets: npt.NDArray[np.int64], clips: SpooledColumns, rows: SpooledColumns
) -> None:
    with new_npz(out) as archive:
        for name, values in (("files", files), ("offsets", offsets)):
            with npy_member(archive, name) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)
        clips.write_npy(archive, "clip_")
        rows.write_npy(archive)


def _write_parquet(
    out: Path, files: npt.NDArray[np.str_], offsets: npt.NDArray[np.int64], clips: SpooledColumns, rows: SpooledColumns
) -> None:
    import pyarrow
    import pyarrow.parquet

    def column(values: npt.NDArray[Any]) -> Any:
        flat = pyarrow.array(values.ravel())
        return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1]) if values.ndim > 1 else flat

    def tables(spooled: SpooledColumns, scope: str, starts: npt.NDArray[np.int64]) -> Iterator[Any]:
        for first, columns in spooled.chunks():
            length = len(next(iter(columns.values())))
            of_file = np.searchsorted(starts, np.arange(first, first + length), side="right") - 1
            scopes = {"scope": [scope] * length} if clips.rows else {}
            plain = {name: column(values) for name, values in columns.items()}
            yield pyarrow.table({"file": files[of_file]} | scopes | plain)

    writer = None
    for table in chain(tables(clips, "clip", np.arange(len(files))), tables(rows, "frame", offsets[:-1])):
        writer = writer or pyarrow.parquet.ParquetWriter(out, table.schema)
        writer.write_table(table)
    assert writer is not None  # there is audio
    writer.close()


def _audio_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = sorted(path / name for name in audio_below(path))
            if not inside:
                raise OssicleError(f"{path} holds no audio files ({', '.join(sorted(SUFFIXES))})")
            yield from inside
        elif path.is_file():
            yield path
        elif path.exists():
            raise OssicleError(f"{path} is neither a regular file nor a folder; write the audio into a file first")
        else:
            raise OssicleError(f"{path} does not exist")
