"""The data pipeline: from a manifest to batches of spectrograms, in fairseq2's `DataPipeline`, which resumes exactly.

Notable choices:

- The position in the stream determines the row and the crop of a clip, so the state is only a number and the content of
  the buckets. fairseq2's `shuffle` and `repeat` lose clips when they resume at the end of an epoch.
- Clips of similar length share a batch. They are sorted into buckets by the length in the manifest and read only when a
  batch is full. Buckets hold numbers instead of spectrograms, so there can be many.
- The stream never ends, so no batch is smaller at the end of an epoch.
- The spectrogram of a stretch that is the same every time is cached in memory (`clip_cache`).
- A file that cannot be read is reported once and left out. If no file can be read any more, the stream raises an error
  instead of searching forever.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import soundfile  # noqa: F401  # isort: skip  # fairseq2 takes its libsndfile, so it must come first
import numpy as np
import numpy.typing as npt
import torch
from fairseq2.data.data_pipeline import DataPipeline, DataPipelineBuilder, read_sequence
from torch import Tensor, nn

from ..core.data import SpectrogramBatch
from ..core.errors import CorpusError
from ..core.interfaces import FrontEnd
from ..core.manifest import Manifest
from .clip_cache import Clip, clip_cache, state_of
from .decode import decode

log = logging.getLogger("ossicle")

PADDING = 0.04
"""Largest allowed share of padding in the batches. A pass over few clips may exceed it."""

MOST_BUCKETS = 32
PREFETCHED_BATCHES = 2

# Number of quantiles of the clips' lengths among which the edges of buckets are chosen.
_EDGES = 256

Example = dict[str, Any]


def training_pipeline(
    manifest: Manifest,
    rows: npt.NDArray[np.int64],
    front_end: FrontEnd,
    *,
    batch_seconds: float,
    crop_seconds: float,
    seed: int,
    first: int = 0,
    rank: int = 0,
    world_size: int = 1,
    weights: npt.NDArray[np.float64] | None = None,
) -> DataPipeline:
    """Create an endless stream of `SpectrogramBatch`, shuffled again on every pass over `rows`.

    Args:
        batch_seconds: audio in a batch, padding included, in seconds. A batch has at least one clip.
        crop_seconds: longest stretch of a clip that is used, in seconds. Its position is drawn again for every use.
        first: number of clips to skip at the start
        rank: index of the share of the stream among `world_size` shares, which take turns clip by clip
        weights: (rows,) relative frequency of each clip. The clips of a pass are then drawn with replacement. None uses
            each clip once per pass.

    Raises:
        CorpusError: if there are no rows, or, during the iteration, if none of them can be read any more
    """
    if not len(rows):
        raise CorpusError("there is no clip to train on: the chosen splits of the corpus are empty; choose others")
    reader = _Reader(manifest, front_end, crop_seconds)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> npt.NDArray[np.int64]:
        generator = np.random.default_rng((seed, epoch))
        if weights is None:
            return generator.permutation(rows)
        return generator.choice(rows, len(rows), p=weights / weights.sum())

    def draw(number: int) -> Example:
        position = first + number * world_size + rank
        epoch, of_epoch = divmod(position, len(rows))
        row = int(order(epoch)[of_epoch])
        generator = np.random.default_rng((seed, position))
        excess = max(0.0, float(reader.seconds[row]) - crop_seconds)
        return {
            "row": row,
            "frames": reader.frames(row),
            "start": excess * generator.random(),
            "comes_again": excess == 0.0,
            "draw": int(generator.integers(2**63)),
        }

    def load(drawn: list[Example]) -> SpectrogramBatch | None:
        batch = reader.batch(drawn)
        if reader.failures_in_a_row > len(rows):
            raise CorpusError("none of the clips to train on can be read any more; see the warnings above")
        return batch

    builder = DataPipeline.count().map(draw)
    buckets = _buckets(reader.used_seconds[rows], batch_seconds, front_end.hop_seconds)
    builder.bucket_by_length(buckets, selector="frames")
    return _loaded(builder, load)


def clip_batches(
    manifest: Manifest,
    rows: npt.NDArray[np.int64],
    front_end: FrontEnd,
    *,
    batch_seconds: float,
    crop_seconds: float,
) -> Iterator[SpectrogramBatch]:
    """Iterate once over `rows`, shortest clips first. Only the first `crop_seconds` of longer clips are used."""
    reader = _Reader(manifest, front_end, crop_seconds)
    order = rows[np.argsort(reader.used_seconds[rows], kind="stable")]
    ends = ends_of_batches(reader.used_seconds[order], batch_seconds)

    def load(bounds: list[int]) -> SpectrogramBatch | None:
        return reader.batch([{"row": row} for row in order[slice(*bounds)].tolist()])

    yield from _loaded(read_sequence([list(bounds) for bounds in pairwise([0, *ends])]), load)


def _loaded(builder: DataPipelineBuilder, load: Callable[[Any], SpectrogramBatch | None]) -> DataPipeline:
    # One call at a time, because fairseq2 0.8.1 does not resume a parallel `map` exactly. Prefetching still runs in
    # parallel to the model, and the native transform computes a clip's frames on several threads.
    return builder.map(load).filter(lambda batch: batch is not None).prefetch(PREFETCHED_BATCHES).and_return()


class _Reader:
    """Reads spectrograms of clips by their rows. Thread-safe."""

    def __init__(self, manifest: Manifest, front_end: FrontEnd, crop_seconds: float) -> None:
        self.seconds = manifest.seconds
        # A file may have grown since its header was read, but the widest bucket fits the longest clip of the manifest.
        self.used_seconds = np.minimum(np.where(self.seconds > 0, self.seconds, crop_seconds), crop_seconds)
        self.failures_in_a_row = 0
        self._manifest = manifest
        self._front_end = front_end
        self._transform = front_end.transform
        # Read once, like the transform, which later changes of the front end do not affect.
        self._frames_key = front_end.frames_key
        self._cache = clip_cache()
        self._stream = self._cache.begin()
        self._reported: set[int] = set()
        self._lock = threading.Lock()

    def frames(self, row: int) -> int:
        """Compute the number of frames that are read of a clip, up to rounding."""
        return math.ceil(float(self.used_seconds[row]) / self._front_end.hop_seconds)

    def batch(self, examples: Sequence[Example]) -> SpectrogramBatch | None:
        """Read stretches of clips into a batch. Clips that cannot be read are left out; None if no clip is left.

        Args:
            examples: `row` of each; for training also `start` in seconds, `comes_again` (whether every use of the clip
                reads the same stretch), and `draw`
        """
        found = [
            (item, self._read(item["row"], item.get("start", 0.0), item.get("comes_again", True))) for item in examples
        ]
        read = [(item, clip) for item, clip in found if clip is not None]
        if not read:
            return None
        rows = [item["row"] for item, _ in read]
        return SpectrogramBatch(
            frames=nn.utils.rnn.pad_sequence([clip.fbank for _, clip in read], batch_first=True),
            lengths=torch.tensor([len(clip.fbank) for _, clip in read]),
            samples=torch.tensor([clip.samples for _, clip in read]),
            clips=torch.tensor(rows),
            labels=_labels(self._manifest, rows),
            draws=torch.tensor([item["draw"] for item, _ in read]) if "draw" in examples[0] else None,
        )

    def _read(self, row: int, start_seconds: float, comes_again: bool) -> Clip | None:
        path = self._manifest.path(row)
        seconds = float(self.used_seconds[row])
        key = self._key(path, start_seconds, seconds) if comes_again else None
        clip = None if key is None else self._cache.get(key, self._stream)
        if clip is None:
            try:
                clip = self._spectrogram(path, start_seconds, seconds)
            except CorpusError as error:
                self._report(row, error)
                return None
            if key is not None:
                self._cache.put(key, clip, self._stream)
        self.failures_in_a_row = 0
        return clip

    def _key(self, path: Path, start_seconds: float, seconds: float) -> Hashable | None:
        """Collect all that determines the frames of a stretch, before the file is read; None if that is unknown."""
        state = None if self._frames_key is None else state_of(path)
        if state is None:
            return None
        return type(self._front_end), self._frames_key, self._front_end.sample_rate, state, start_seconds, seconds

    def _spectrogram(self, path: Path, start_seconds: float, seconds: float) -> Clip:
        waveform = decode(path, self._front_end.sample_rate, start_seconds=start_seconds, seconds=seconds)
        fbank = self._front_end.spectrogram(torch.from_numpy(waveform), transform=self._transform)
        return Clip(fbank, len(waveform))

    def _report(self, row: int, error: CorpusError) -> None:
        with self._lock:
            self.failures_in_a_row += 1
            is_new = row not in self._reported
            self._reported.add(row)
        if is_new:
            log.warning("left out: %s", error)


def _labels(manifest: Manifest, rows: list[int]) -> Tensor | None:
    """Collect labels: (B,) int64 with -1 for clips without a label, or (B, classes) float32 for multi-label corpora."""
    if not manifest.label_names:
        return None
    if not manifest.multi_label:
        return torch.tensor([next(iter(manifest.labels[row]), -1) for row in rows])
    labels = torch.zeros(len(rows), len(manifest.label_names))
    for clip, row in enumerate(rows):
        labels[clip, list(manifest.labels[row])] = 1.0
    return labels


def _buckets(seconds: npt.NDArray[np.float64], batch_seconds: float, hop_seconds: float) -> list[tuple[int, int]]:
    """Choose (clips, longest clip in frames) of each bucket: the fewest buckets whose padding is at most `PADDING`.

    Each bucket gets at least one full batch per pass. Otherwise its batches would always have the same few clips.

    Args:
        seconds: (clips,) used length of each clip
    """
    # A clip goes into the first bucket that holds its frames. Equal lengths in frames therefore share a bucket.
    edges = _edges(np.ceil(seconds / hop_seconds), batch_seconds / hop_seconds).astype(int)
    # Rounding in the resampler may give one frame more than the header states.
    return [(max(1, int(batch_seconds / hop_seconds / (edge + 2))), int(edge)) for edge in edges]


def _edges(lengths: npt.NDArray[np.float64], batch_length: float) -> npt.NDArray[np.float64]:
    """Find the longest clip of each bucket, such that this number of buckets has the least padding.

    The search is exact among quantiles, by dynamic programming: the best edges of n + 1 buckets extend the best edges
    of n buckets.

    Args:
        lengths: (clips,) used length of each clip
        batch_length: length of a batch, padding included, in the same unit
    """
    ascending = np.sort(lengths)
    quantiles = np.linspace(0, 1, _EDGES + 1)[1:]
    edges = np.unique(np.quantile(ascending, quantiles, method="inverted_cdf"))
    held = np.searchsorted(ascending, edges, side="right")
    # Row i, column j: padded length of a bucket from edge i - 1 (exclusive) to edge j (inclusive).
    padded = (held[None, :] - np.append(0, held[:-1])[:, None]) * edges[None, :]
    allowed = (np.arange(len(edges))[:, None] <= np.arange(len(edges))[None, :]) & (padded >= batch_length)
    padded = np.where(allowed, padded, np.inf)
    least = np.where(padded[0] >= batch_length, padded[0], np.inf)  # up to each edge, with one bucket
    least[-1] = held[-1] * edges[-1]
    before: list[npt.NDArray[np.int64]] = []
    while len(before) + 1 < MOST_BUCKETS and 1 - ascending.sum() / least[-1] > PADDING:
        total = np.append(np.inf, least[:-1])[:, None] + padded
        if total[:, -1].min() >= least[-1]:
            break
        before.append(total.argmin(0) - 1)
        least = total.min(0)
    chosen = [len(edges) - 1]
    for extended in reversed(before):
        chosen.append(int(extended[chosen[-1]]))
    return edges[chosen[::-1]]


def ends_of_batches(ascending: npt.NDArray[np.float64], batch_seconds: float) -> list[int]:
    """Divide clips, shortest first, into batches. Returns the end of each batch.

    A batch has at least one clip, at most `batch_seconds` with its padding, and at most a share of `PADDING`.
    """
    ends: list[int] = []
    start, held = 0, 0.0
    for place, longest in enumerate(ascending.tolist()):
        padded = (place + 1 - start) * longest
        if place > start and (padded > batch_seconds or held + longest < (1 - PADDING) * padded):
            ends.append(place)
            start, held = place, 0.0
        held += longest
    return [*ends, len(ascending)] if len(ascending) else []
