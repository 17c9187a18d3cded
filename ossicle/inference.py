"""Use a trained part from Python: embed, tokenize and classify waveforms of any rate and length.

Notable choices: a clip is cut to its real length before anything else happens to it, so that padding cannot leak; an
artifact brings its own front end and statistics, so that nothing has to be set by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr
import torch
from torch import Tensor, nn

from .core.catalog import Origin
from .core.data import AudioBatch, Encoded, PatchBatch
from .core.errors import ArtifactError, OssicleError
from .core.interfaces import Encoder, FrontEnd, Head, Tokenizer
from .core.loading import load_plugins
from .encoders.checkpoint import open_checkpoint
from .encoders.released import Released
from .tasks.importing import classes_of, parts_of
from .tasks.pooling import pool_columns, pool_mean

Waveform: TypeAlias = Tensor | npt.NDArray[Any]


@dataclass(frozen=True)
class Embedding:
    """What an encoder says of B clips.

    Attributes:
        clip: (B, D) mean over each clip's valid patches
        sequence: (B, N, D) one vector per patch, time-major
        valid: (B, N) bool, False where a patch is padding
        frames: (B, T′, D) mean over the frequency bands of each time column
        frames_valid: (B, T′) bool
        times: (T′, 2) start and end of each column in seconds
        layers: the input of the first layer and the output of each, (B, N, D); empty unless asked for
    """

    clip: Tensor
    sequence: Tensor
    valid: Tensor
    frames: Tensor
    frames_valid: Tensor
    times: Tensor
    layers: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer says of B clips.

    Attributes:
        ids: (B, N) int64 in [0, K), time-major; (B, N, G) from a tokenizer that gives a patch several labels
        valid: (B, N) bool
        times: (T′, 2) start and end of each time column in seconds
        bands: (bands, 2) lower and upper edge of each frequency band in Hz
        codebook_size: K
    """

    ids: Tensor
    valid: Tensor
    times: Tensor
    bands: Tensor
    codebook_size: int


@dataclass(frozen=True)
class Classes:
    """What a classifier says of B clips.

    Attributes:
        probabilities: (B, classes)
        labels: the name of each class
    """

    probabilities: Tensor
    labels: tuple[str, ...]


@dataclass(frozen=True)
class LoadedPart:
    """A front end with whatever was trained behind it: an encoder, a tokenizer, a classifier.

    Attributes:
        path: the artifact or checkpoint that it was loaded from
        labels: the classes of the classifier
        multi_label: whether a clip can carry several of them, so that each has a probability of its own
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
    ) -> Embedding:
        """Embed clips.

        Args:
            waveform: (S,) or (B, S), floats in [-1, 1] or signed integers, at any rate; one channel
            sample_rate: in Hz; the waveform is resampled to the front end's rate where it differs
            lengths: (B,) real samples of each clip; all of S when None
            layers: also give every layer's output

        Raises:
            ArtifactError: if no encoder was loaded
            OssicleError: if the waveform or the lengths make no sense
        """
        encoder = self._need(self.encoder, "encoder")
        batch = self._patches(waveform, sample_rate, lengths)
        encoded: Encoded = encoder(batch, layers=layers)
        frames, frames_valid = pool_columns(encoded)
        return Embedding(
            clip=pool_mean(encoded),
            sequence=encoded.sequence,
            valid=encoded.valid,
            frames=frames,
            frames_valid=frames_valid,
            times=self.front_end.column_times(batch.grid.columns),
            layers=tuple(encoded.layers),
        )

    @torch.inference_mode()
    def tokenize(
        self, waveform: Waveform, *, sample_rate: int, lengths: Sequence[int] | Tensor | None = None
    ) -> Tokens:
        """Label the patches of clips; the arguments are those of `embed`.

        Raises:
            ArtifactError: if no tokenizer was loaded
        """
        tokenizer = self._need(self.tokenizer, "tokenizer")
        batch = self._patches(waveform, sample_rate, lengths)
        tokens = tokenizer.tokenize(batch)
        return Tokens(
            ids=tokens.ids,
            valid=tokens.valid,
            times=self.front_end.column_times(batch.grid.columns),
            bands=self.front_end.band_edges(),
            codebook_size=tokenizer.codebook_size,
        )

    @torch.inference_mode()
    def classify(
        self, waveform: Waveform, *, sample_rate: int, lengths: Sequence[int] | Tensor | None = None
    ) -> Classes:
        """Give the probability of every class; the arguments are those of `embed`.

        Each class on its own (sigmoid) where a clip can carry several, else all together (softmax).

        Raises:
            ArtifactError: if no classifier was loaded
        """
        head = self._need(self.head, "classifier")
        encoder = self._need(self.encoder, "encoder")
        logits: Tensor = head(encoder(self._patches(waveform, sample_rate, lengths)))
        return Classes(logits.sigmoid() if self.multi_label else logits.softmax(1), self.labels)

    def _need(self, part: Any, role: str) -> Any:
        if part is None:
            has = [name for name in ("encoder", "tokenizer", "head") if getattr(self, name) is not None]
            raise ArtifactError(f"{self.path} holds no {role}; it holds: {', '.join(has) or 'a front end alone'}")
        return part

    def _patches(self, waveform: Waveform, sample_rate: int, lengths: Sequence[int] | Tensor | None) -> PatchBatch:
        clips = _clips(waveform, lengths)
        if sample_rate <= 0:
            raise OssicleError(f"`sample_rate` must be positive, in Hz, but is {sample_rate}")
        if sample_rate != self.front_end.sample_rate:
            clips = [soxr.resample(clip, sample_rate, self.front_end.sample_rate) for clip in clips]
        batch = AudioBatch(
            waveform=nn.utils.rnn.pad_sequence([torch.from_numpy(clip) for clip in clips], batch_first=True),
            lengths=torch.tensor([len(clip) for clip in clips]),
        )
        patches: PatchBatch = self.front_end(batch)
        return patches


def load(path: str | Path, *, plugins: Sequence[str | Path] = ()) -> LoadedPart:
    """Load an artifact, a run's folder, or a released checkpoint of BEATs, OpenBEATs or ESPnet.

    Args:
        path: an artifact's folder; the folder of a run, whose last encoder is taken; or a released file
        plugins: Python files with the parts that the artifact needs, if they are not installed; the file that made it
            is found by itself while it lies unchanged where it was

    Raises:
        ArtifactError: if there is nothing that can be loaded
    """
    path = Path(path)
    source = open_checkpoint(path)
    if isinstance(source, Released):
        return _loaded(path, parts_of(source, load_plugins(list(map(Path, plugins))).catalog), classes_of(source))
    stated = source.card["parts"]
    files = [Path(plugin) for plugin in plugins] or _unchanged_plugins(stated.values())
    catalog = load_plugins(files).catalog
    if "front_end" not in stated:
        raise ArtifactError(f"{source.path} holds no front end, so it cannot take waveforms")
    return _loaded(source.path, parts_of(source, catalog), source.card.get("metrics", {}))


def _loaded(path: Path, parts: Mapping[str, Any], classes: Mapping[str, Any]) -> LoadedPart:
    """Give parts together with what their checkpoint says of its classes."""
    return LoadedPart(
        path=path,
        **parts,
        labels=tuple(classes.get("label_names", ())) if "head" in parts else (),
        multi_label=classes.get("multi_label", True),
    )


def _unchanged_plugins(entries: Iterable[Mapping[str, Any]]) -> list[Path]:
    """The plugin files that made an artifact's parts, where they lie unchanged; other code is never run unasked."""
    stated = {Path(entry["plugin"]): entry["origin"] for entry in entries if entry.get("plugin")}
    return [path for path, origin in stated.items() if path.is_file() and Origin.of_file(path).describe() == origin]


def _clips(waveform: Waveform, lengths: Sequence[int] | Tensor | None) -> list[npt.NDArray[np.float32]]:
    """Cut a waveform into clips of their real lengths, as float32 in [-1, 1]."""
    array = _as_float(waveform)
    if array.ndim not in (1, 2):
        raise OssicleError(f"`waveform` must be (samples,) or (clips, samples), but is {array.shape}")
    array = np.atleast_2d(array)
    if not len(array):
        raise OssicleError("`waveform` holds no clips")
    real = [array.shape[1]] * len(array) if lengths is None else np.asarray(lengths).reshape(-1).tolist()
    if len(real) != len(array) or not all(length in range(array.shape[1] + 1) for length in real):
        raise OssicleError(
            f"`lengths` must hold {len(array)} whole numbers between 0 and {array.shape[1]}, but holds {real}"
        )
    clips = [
        np.ascontiguousarray(clip[: int(length)], dtype=np.float32) for clip, length in zip(array, real, strict=True)
    ]
    if not all(np.isfinite(clip).all() for clip in clips):
        raise OssicleError("`waveform` holds values that are not finite")
    return clips


def _as_float(waveform: Waveform) -> npt.NDArray[Any]:
    """Numbers in [-1, 1]; integers are divided by the full scale of their type."""
    if isinstance(waveform, Tensor):
        waveform = waveform.detach().cpu()
        # NumPy knows no bfloat16.
        array = (waveform.float() if waveform.is_floating_point() else waveform).numpy()
    else:
        array = np.asarray(waveform)
    if np.issubdtype(array.dtype, np.signedinteger):
        return array / (np.iinfo(array.dtype).max + 1.0)
    if not np.issubdtype(array.dtype, np.floating):
        raise OssicleError(f"`waveform` must be floats in [-1, 1] or signed integers, but is {array.dtype}")
    return array
