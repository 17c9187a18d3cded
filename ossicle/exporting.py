"""Embed or tokenize files and folders of audio into one `.npz` or `.parquet`.

A `.parquet` has one row per time column (embeddings) or per token, with the file, the time and the band; an `.npz` holds
the same as arrays that are concatenated over the files, with `offsets` to cut them apart again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .audio.corpora.folder import SUFFIXES
from .audio.decode import decode
from .core.errors import OssicleError
from .inference import LoadedPart, load

Columns = Mapping[str, npt.NDArray[Any]]


def embed_files(part: Path, audio: Sequence[Path], out: Path, *, plugins: Sequence[Path] = ()) -> int:
    """Write a vector per clip and one per time column, with its start and end in seconds.

    Returns:
        The number of files.

    Raises:
        OssicleError: if there is no audio, or `out` has another ending than `.npz` or `.parquet`
    """

    def of_clip(model: LoadedPart, waveform: npt.NDArray[np.float32]) -> tuple[Columns, Columns]:
        found = model.embed(waveform, sample_rate=model.front_end.sample_rate)
        times = found.times.numpy()
        frames = {"frames": found.frames[0].numpy(), "start": times[:, 0], "end": times[:, 1]}
        return {"clips": found.clip.numpy()}, frames

    return _export(part, audio, out, plugins, of_clip)


def tokenize_files(part: Path, audio: Sequence[Path], out: Path, *, plugins: Sequence[Path] = ()) -> int:
    """Write the id of every token, with its start and end in seconds and its band's edges in Hz.

    Returns and raises as `embed_files`.
    """

    def of_clip(model: LoadedPart, waveform: npt.NDArray[np.float32]) -> tuple[Columns, Columns]:
        found = model.tokenize(waveform, sample_rate=model.front_end.sample_rate)
        times, bands = found.times.numpy(), found.bands.numpy()
        columns = {
            "ids": found.ids[0].numpy(),
            "start": times[:, 0].repeat(len(bands)),
            "end": times[:, 1].repeat(len(bands)),
            "low_hz": np.tile(bands[:, 0], len(times)),
            "high_hz": np.tile(bands[:, 1], len(times)),
        }
        return {}, columns

    return _export(part, audio, out, plugins, of_clip)


def _export(
    part: Path,
    audio: Sequence[Path],
    out: Path,
    plugins: Sequence[Path],
    of_clip: Callable[[LoadedPart, npt.NDArray[np.float32]], tuple[Columns, Columns]],
) -> int:
    if out.suffix not in (".npz", ".parquet"):
        raise OssicleError(f"--out must end in .npz or .parquet, but is {out}")
    files = list(_audio_files(audio))
    model = load(part, plugins=plugins)
    per_clip: dict[str, list[npt.NDArray[Any]]] = {}
    per_row: dict[str, list[npt.NDArray[Any]]] = {}
    counts = []
    for path in files:
        clip, rows = of_clip(model, decode(path, model.front_end.sample_rate))
        for name, value in clip.items():
            per_clip.setdefault(name, []).append(value)
        for name, value in rows.items():
            per_row.setdefault(name, []).append(value)
        counts.append(len(next(iter(rows.values()))))
    clips = {name: np.concatenate(values) for name, values in per_clip.items()}
    rows = {name: np.concatenate(values) for name, values in per_row.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        np.savez_compressed(out, files=np.array([str(path) for path in files]), offsets=np.cumsum([0, *counts]), **clips, **rows)
    else:
        _write_parquet(out, files, counts, rows)
    return len(files)


def _write_parquet(out: Path, files: Sequence[Path], counts: Sequence[int], rows: Columns) -> None:
    import pyarrow
    import pyarrow.parquet

    names = pyarrow.array([str(path) for path in files]).take(np.repeat(np.arange(len(files)), counts))
    table = {"file": names}
    for name, values in rows.items():
        table[name] = pyarrow.array(list(values)) if values.ndim > 1 else pyarrow.array(values)
    pyarrow.parquet.write_table(pyarrow.table(table), out)


def _audio_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise OssicleError(f"{path} holds no audio files ({', '.join(sorted(SUFFIXES))})")
            yield from inside
        elif path.is_file():
            yield path
        else:
            raise OssicleError(f"{path} does not exist")
