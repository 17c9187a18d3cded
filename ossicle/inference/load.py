"""Use a trained part from Python: embed, tokenize and classify waveforms of any rate and length.

Notable choices:

- A clip is first cut to its real length, so that padding has no effect.
- An artifact contains its front end and statistics, so that nothing has to be set by hand.
- A clip that is longer than a window is processed in overlapping windows, so that memory grows only with the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..audio.decode import STRETCH_SECONDS, Resampler
from ..audio.patch_batches import pad_waveforms
from ..audio.windows import OVERLAP_SECONDS, WINDOW_SECONDS, ColumnGrid, Window, windows
from ..checkpoints.contents import open_checkpoint
from ..checkpoints.microsoft import Released
from ..core.catalog import Origin
from ..core.data import Encoded, Grid, PatchBatch
from ..core.errors import ArtifactError, OssicleError, PluginError
from ..core.interfaces import Encoder, FrontEnd, Head, Tokenizer
from ..core.plugin_loading import load_plugins
from ..encoders.pooling import pool_columns, pool_mean
from ..tasks.stages.import_checkpoint import classes_of, parts_of
from ..training.layer_switches import compile_layers
from ..training.memory import keep_freed_memory
from .results import Classes, Embedding, Tokens, in_sequence, side_by_side

Waveform: TypeAlias = Tensor | npt.NDArray[Any]


@dataclass(frozen=True)
class LoadedPart:
    """A front end with the trained parts that use it: an encoder, a tokenizer, a classifier.

    Attributes:
        path: the artifact or checkpoint that it was loaded from
        labels: the classes of the classifier
        multi_label: whether a clip can have several classes, so that each has an independent probability
    """

    path: Path
    front_end: FrontEnd
    encoder: Encoder | None = None
    tokenizer: Tokenizer | None = None
    head: Head | None = None
    labels: tuple[str, ...] = ()
    multi_label: bool = True

    @torch.inference_mode()
    def embed(
        self,
        waveform: Waveform,
        *,
        sample_rate: int,
        lengths: Sequence[int] | Tensor | None = None,
        layers: bool = False,
        window_seconds: float = WINDOW_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> Embedding:
        """Embed clips.

        Args:
            waveform: (S,) or (B, S), floats in [-1, 1] or signed integers, at any rate; one channel
            sample_rate: in Hz; the waveform is resampled to the front end's rate if it differs
            lengths: (B,) number of real samples of each clip; S when None
            layers: whether to also return the output of every layer
            window_seconds: longer clips are processed in windows of this length; infinity processes every clip whole
            overlap_seconds: overlap of neighbouring windows; half of it is context on each side of a window

        Raises:
            ArtifactError: if no encoder was loaded
            OssicleError: if the waveform, the lengths or the windows are invalid
        """
        self._need(self.encoder, "encoder")
        clips = _clips(waveform, sample_rate, lengths)
        if max(map(len, clips)) <= window_seconds * sample_rate:
            return self._embedding(self._patches(self._whole(clips, sample_rate)), layers=layers)

        of_stream = partial(
            self.embed_stream, layers=layers, window_seconds=window_seconds, overlap_seconds=overlap_seconds
        )
        return side_by_side([in_sequence(list(of_stream(self._stream(clip, sample_rate)))) for clip in clips])

    @torch.inference_mode()
    def embed_stream(
        self,
        stretches: Iterable[npt.NDArray[np.float32]],
        *,
        layers: bool = False,
        window_seconds: float = WINDOW_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> Iterator[Embedding]:
        """Embed one recording of any length, with at most two windows of it in memory.

        Args:
            stretches: consecutive pieces of the recording, (S,) each, mono, at `front_end.sample_rate`; as from
                `audio.decode.decode_stretches`

        Yields:
            Embeddings of one clip, each with the next time columns; `clip` is the mean over only these columns.
        """
        self._need(self.encoder, "encoder")
        for window, patches in self._windows(stretches, window_seconds, overlap_seconds):
            yield self._embedding(patches, window, layers=layers)

    @torch.inference_mode()
    def tokenize(
        self,
        waveform: Waveform,
        *,
        sample_rate: int,
        lengths: Sequence[int] | Tensor | None = None,
        window_seconds: float = WINDOW_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> Tokens:
        """Compute the tokens of the patches of clips; the arguments are those of `embed`.

        Raises:
            ArtifactError: if no tokenizer was loaded
        """
        self._need(self.tokenizer, "tokenizer")
        clips = _clips(waveform, sample_rate, lengths)
        if max(map(len, clips)) <= window_seconds * sample_rate:
            return self._tokens(self._patches(self._whole(clips, sample_rate)))

        of_stream = partial(self.tokenize_stream, window_seconds=window_seconds, overlap_seconds=overlap_seconds)
        return side_by_side([in_sequence(list(of_stream(self._stream(clip, sample_rate)))) for clip in clips])

    @torch.inference_mode()
    def tokenize_stream(
        self,
        stretches: Iterable[npt.NDArray[np.float32]],
        *,
        window_seconds: float = WINDOW_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> Iterator[Tokens]:
        """Compute the tokens of one recording of any length; arguments as for `embed_stream`."""
        self._need(self.tokenizer, "tokenizer")
        for window, patches in self._windows(stretches, window_seconds, overlap_seconds):
            yield self._tokens(patches, window)

    @torch.inference_mode()
    def classify(
        self,
        waveform: Waveform,
        *,
        sample_rate: int,
        lengths: Sequence[int] | Tensor | None = None,
        window_seconds: float = WINDOW_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> Classes:
        """Compute the probability of every class; the arguments are those of `embed`.

        Probabilities are independent (sigmoid) if a clip can have several classes, else they sum to 1 (softmax). The
        logits of a clip in several windows are the mean over its windows, weighted by the patches that each window
        keeps. For a linear classifier of pooled means, this equals the logits of the whole clip.

        Raises:
            ArtifactError: if no classifier was loaded
        """
        self._need(self.head, "classifier")
        self._need(self.encoder, "encoder")
        clips = _clips(waveform, sample_rate, lengths)
        if max(map(len, clips)) <= window_seconds * sample_rate:
            logits = self._logits(self._patches(self._whole(clips, sample_rate)))
        else:
            streams = (self._stream(clip, sample_rate) for clip in clips)
            logits = torch.cat([self._logits_of(stream, window_seconds, overlap_seconds) for stream in streams])
        return Classes(logits.sigmoid() if self.multi_label else logits.softmax(1), self.labels)

    def _need(self, part: Any, role: str) -> Any:
        if part is None:
            has = [name for name in ("encoder", "tokenizer", "head") if getattr(self, name) is not None]
            raise ArtifactError(f"{self.path} holds no {role}; it holds: {', '.join(has) or 'only a front end'}")
        return part

    def _embedding(self, patches: PatchBatch, window: Window | None = None, *, layers: bool = False) -> Embedding:
        assert self.encoder is not None
        encoded = _kept(self.encoder(patches, layers=layers), window)
        frames, frames_valid = pool_columns(encoded)
        return Embedding(
            clip=pool_mean(encoded),
            sequence=encoded.sequence,
            valid=encoded.valid,
            frames=frames,
            frames_valid=frames_valid,
            times=self._times(encoded.grid.columns, window),
            layers=tuple(encoded.layers),
        )

    def _tokens(self, patches: PatchBatch, window: Window | None = None) -> Tokens:
        assert self.tokenizer is not None
        tokens = self.tokenizer.tokenize(patches)
        kept = _kept_patches(patches.grid, window)
        valid = tokens.valid[:, kept]
        return Tokens(
            ids=tokens.ids[:, kept],
            valid=valid,
            times=self._times(valid.shape[1] // patches.grid.bands, window),
            bands=self.front_end.band_edges(),
            codebook_size=self.tokenizer.codebook_size,
        )

    def _logits(self, patches: PatchBatch, window: Window | None = None) -> Tensor:
        assert self.encoder is not None
        assert self.head is not None
        logits: Tensor = self.head(_kept(self.encoder(patches), window))
        return logits

    def _logits_of(
        self, stretches: Iterable[npt.NDArray[np.float32]], window_seconds: float, overlap_seconds: float
    ) -> Tensor:
        """Average the logits over the windows of a recording: (1, classes)."""
        total, weights = torch.zeros(()), 0
        for window, patches in self._windows(stretches, window_seconds, overlap_seconds):
            weight = int(patches.valid[:, _kept_patches(patches.grid, window)].sum())
            total, weights = total + weight * self._logits(patches, window), weights + weight
        return total / weights

    def _times(self, columns: int, window: Window | None) -> Tensor:
        times = self.front_end.column_times(columns)
        if window is None:
            return times
        shifted: Tensor = times + (window.first + window.kept.start) * ColumnGrid(self.front_end).step_seconds
        return shifted

    def _windows(
        self, stretches: Iterable[npt.NDArray[np.float32]], window_seconds: float, overlap_seconds: float
    ) -> Iterator[tuple[Window, PatchBatch]]:
        for window in windows(
            stretches, self.front_end, window_seconds=window_seconds, overlap_seconds=overlap_seconds
        ):
            patches = self._patches([window.waveform])
            if patches.grid.columns < window.kept.stop:
                raise PluginError(
                    f"front end `{type(self.front_end).__name__}` gives {patches.grid.columns} time columns for "
                    f"{len(window.waveform)} samples, but its `column_times` require {window.kept.stop} or more"
                )
            yield window, patches

    def _stream(self, clip: npt.NDArray[Any], sample_rate: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield consecutive pieces of a clip, resampled without discontinuities between them."""
        at_once = round(STRETCH_SECONDS * sample_rate)
        resample = Resampler(sample_rate, self.front_end.sample_rate)
        for start in range(0, len(clip), at_once):
            yield resample(_as_float32(clip[start : start + at_once]))
        yield resample.rest()

    def _whole(self, clips: Sequence[npt.NDArray[Any]], sample_rate: int) -> list[npt.NDArray[np.float32]]:
        return [np.concatenate(list(self._stream(clip, sample_rate))) for clip in clips]

    def _patches(self, clips: Sequence[npt.NDArray[np.float32]]) -> PatchBatch:
        patches: PatchBatch = self.front_end(pad_waveforms(clips))
        return patches


def load(path: str | Path, *, plugins: Sequence[str | Path] = (), compile: bool = False) -> LoadedPart:
    """Load an artifact, a run's folder, or a released checkpoint of BEATs, OpenBEATs or ESPnet.

    Args:
        path: folder of an artifact; folder of a run, for its last encoder; or a released file
        plugins: Python files with the parts that the artifact needs, if they are not installed; the file that the
            artifact was made with is found automatically if its path and content have not changed
        compile: whether torch compiles the layers at their first use; takes a minute, which only pays for many clips

    Raises:
        ArtifactError: if nothing can be loaded from `path`
        OssicleError: if there are no layers to compile
    """
    keep_freed_memory()
    path = Path(path)
    source = open_checkpoint(path)
    if isinstance(source, Released):
        parts = parts_of(source, load_plugins(list(map(Path, plugins))).catalog)
        return _loaded(path, parts, classes_of(source), compile=compile)
    stated = source.card["parts"]
    files = [Path(plugin) for plugin in plugins] or _unchanged_plugins(stated.values())
    catalog = load_plugins(files).catalog
    if "front_end" not in stated:
        raise ArtifactError(f"{source.path} holds no front end, so it cannot take waveforms")
    return _loaded(source.path, parts_of(source, catalog), source.card.get("metrics", {}), compile=compile)


def _loaded(path: Path, parts: Mapping[str, Any], classes: Mapping[str, Any], *, compile: bool) -> LoadedPart:
    """Combine parts with the classes that their checkpoint states."""
    if compile:
        compile_layers(nn.ModuleList(part for part in parts.values() if isinstance(part, nn.Module)))
    return LoadedPart(
        path=path,
        **parts,
        labels=tuple(classes.get("label_names", ())) if "head" in parts else (),
        multi_label=classes.get("multi_label", True),
    )


def _unchanged_plugins(entries: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Find the plugin files of an artifact's parts that have not changed. Changed files never run automatically."""
    stated = {Path(entry["plugin"]): entry["origin"] for entry in entries if entry.get("plugin")}
    return [path for path, origin in stated.items() if path.is_file() and Origin.of_file(path).describe() == origin]


def _kept(encoded: Encoded, window: Window | None) -> Encoded:
    """Select the part of an encoded window that is kept."""
    if window is None:
        return encoded
    kept = _kept_patches(encoded.grid, window)
    return Encoded(
        encoded.sequence[:, kept],
        encoded.valid[:, kept],
        Grid(window.kept.stop - window.kept.start, encoded.grid.bands),
        tuple(layer[:, kept] for layer in encoded.layers),
    )


def _kept_patches(grid: Grid, window: Window | None) -> slice:
    return slice(None) if window is None else slice(window.kept.start * grid.bands, window.kept.stop * grid.bands)


def _clips(waveform: Waveform, sample_rate: int, lengths: Sequence[int] | Tensor | None) -> list[npt.NDArray[Any]]:
    """Cut a waveform into clips of their real lengths."""
    array = _as_array(waveform)
    if array.ndim not in (1, 2):
        raise OssicleError(f"`waveform` must be (samples,) or (clips, samples), but is {array.shape}")
    array = np.atleast_2d(array)
    if not len(array):
        raise OssicleError("`waveform` holds no clips")
    if sample_rate <= 0:
        raise OssicleError(f"`sample_rate` must be positive, in Hz, but is {sample_rate}")
    real = [array.shape[1]] * len(array) if lengths is None else np.asarray(lengths).reshape(-1).tolist()
    if len(real) != len(array) or not all(length in range(array.shape[1] + 1) for length in real):
        raise OssicleError(
            f"`lengths` must hold {len(array)} whole numbers between 0 and {array.shape[1]}, but holds {real}"
        )
    return [clip[: int(length)] for clip, length in zip(array, real, strict=True)]


def _as_array(waveform: Waveform) -> npt.NDArray[Any]:
    """Convert a waveform to an array of floating-point numbers or signed integers."""
    if isinstance(waveform, Tensor):
        waveform = waveform.detach().cpu()
        # NumPy has no bfloat16.
        array = (waveform.float() if waveform.dtype == torch.bfloat16 else waveform).numpy()
    else:
        array = np.asarray(waveform)
    if not np.issubdtype(array.dtype, np.signedinteger) and not np.issubdtype(array.dtype, np.floating):
        raise OssicleError(f"`waveform` must be floats in [-1, 1] or signed integers, but is {array.dtype}")
    return array


def _as_float32(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Convert samples to float32 in [-1, 1]. Integers are divided by the full scale of their type."""
    if np.issubdtype(samples.dtype, np.signedinteger):
        samples = samples / (np.iinfo(samples.dtype).max + 1.0)
    if not np.isfinite(samples).all():
        raise OssicleError("`waveform` holds values that are not finite")
    return np.ascontiguousarray(samples, dtype=np.float32)
