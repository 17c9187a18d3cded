"""Embed or tokenize files and folders of audio into one `.npz` or `.parquet`.

A `.parquet` has one row per patch with its token, or per embedding of a time column (`scope` is `frame`) and of a whole
clip (`clip`), with its file, its time in seconds and its band in Hz. A tokenizer that gives a patch several labels has
a list of them as its token. An `.npz` holds the same columns as arrays that are concatenated over the files, with
`offsets` to cut them apart again; columns of whole clips start with `clip_`.
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
        rate = model.front_end.sample_rate
        found = model.embed(waveform, sample_rate=rate)
        times = found.times.numpy()
        clip = {"embedding": found.clip.numpy(), "start": np.zeros(1), "end": np.array([len(waveform) / rate])}
        return clip, {"embedding": found.frames[0].numpy(), "start": times[:, 0], "end": times[:, 1]}

    return _export(part, audio, out, plugins, of_clip)


def tokenize_files(part: Path, audio: Sequence[Path], out: Path, *, plugins: Sequence[Path] = ()) -> int:
    """Write the token of every patch, or a list of them, with its start and end in seconds and its edges in Hz.

    Returns and raises as `embed_files`.
    """

    def of_clip(model: LoadedPart, waveform: npt.NDArray[np.float32]) -> tuple[Columns, Columns]:
        found = model.tokenize(waveform, sample_rate=model.front_end.sample_rate)
        times, bands = found.times.numpy(), found.bands.numpy()
        columns = {
            "token": found.ids[0].numpy(),
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
    paths = list(_audio_files(audio))
    model = load(part, plugins=plugins)
    found = [of_clip(model, decode(path, model.front_end.sample_rate)) for path in paths]
    files = np.array([str(path) for path in paths])
    clips, rows = (_joined([columns[which] for columns in found]) for which in (0, 1))
    counts = [len(columns["start"]) for _, columns in found]
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npz":
        arrays = {f"clip_{name}": values for name, values in clips.items()} | dict(rows)
        np.savez_compressed(out, allow_pickle=False, files=files, offsets=np.cumsum([0, *counts]), **arrays)
    else:
        _write_parquet(out, files, counts, clips, rows)
    return len(paths)


def _joined(columns: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}


def _write_parquet(
    out: Path, files: npt.NDArray[np.str_], counts: Sequence[int], clips: Columns, rows: Columns
) -> None:
    import pyarrow
    import pyarrow.parquet

    def column(values: npt.NDArray[Any]) -> Any:
        flat = pyarrow.array(values.ravel())
        return pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1]) if values.ndim > 1 else flat

    def table(files: npt.NDArray[np.str_], scope: str, columns: Columns) -> Any:
        scopes = {"scope": [scope] * len(files)} if clips else {}
        return pyarrow.table({"file": files} | scopes | {name: column(values) for name, values in columns.items()})

    tables = [table(files, "clip", clips)] if clips else []
    pyarrow.parquet.write_table(pyarrow.concat_tables([*tables, table(np.repeat(files, counts), "frame", rows)]), out)


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
