"""From a manifest to batches of spectrograms, in fairseq2's `DataPipeline`, whose state resumes exactly.

Notable choices: a clip's place in the stream decides its row and its crop, so that the only state is a number and what
waits in buckets (fairseq2's own `shuffle` and `repeat` lose clips on resuming at the end of an epoch). Clips of similar
length share a batch; they are sorted by what the manifest says of their length and read when a batch is full, so that
numbers wait in buckets and not spectrograms, and buckets may be many. The stream never ends, so that no batch is cut
short at the end of an epoch. The spectrogram of a stretch that is the same every time is kept in memory (`clip_cache`).
A file that cannot be read is reported once and left out; when no file can be read any more, the stream ends in an error
instead of searching for ever.
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

from ..core.corpus import Manifest
from ..core.data import SpectrogramBatch
from ..core.errors import CorpusError
from ..core.interfaces import FrontEnd
from .clip_cache import Clip, clip_cache, state_of
from .decode import decode

log = logging.getLogger("ossicle")

PADDING = 0.04
"""How much of its batches a corpus's lengths may leave empty, where a pass holds enough clips to have it so."""

MOST_BUCKETS = 32
PREFETCHED_BATCHES = 2

# Edges of buckets are chosen among so many quantiles of the clips' lengths.
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
    """An endless stream of `SpectrogramBatch`, shuffled anew on every pass over `rows`.

    Args:
        weights: (rows,) how often each clip comes, relative to the others: every clip of a pass is drawn from all;
            None lets each come once in a pass
        batch_seconds: audio in a batch, padding included, in seconds; a batch holds one clip at least
        crop_seconds: longest stretch of a clip that is used, in seconds; where it lies is drawn anew every time
        first: how many clips to leave out at the start
        rank: which of `world_size` shares of the stream to give; they take turns clip by clip

    Raises:
        CorpusError: if there are no rows; while iterating, if none of them can be read any more
    """
    if not len(rows):
        raise CorpusError("there is no clip to train on: the chosen splits of the corpus are empty")
    reader = _Reader(manifest, front_end, crop_seconds)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> npt.NDArray[np.int64]:
        generator = np.random.default_rng((seed, epoch))
        if weights is None:
            return generator.permutation(rows)
        return generator.choice(rows, len(rows), p=weights / weights.sum())

    def draw(number: int) -> Example:
        appearance = first + number * world_size + rank
        epoch, place = divmod(appearance, len(rows))
        row = int(order(epoch)[place])
        generator = np.random.default_rng((seed, appearance))
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
            raise CorpusError("none of the clips to train on can be read any more; the warnings above say why")
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
    """One pass over `rows`, shortest clips first; of longer clips the first `crop_seconds` are used."""
    reader = _Reader(manifest, front_end, crop_seconds)
    order = rows[np.argsort(reader.used_seconds[rows], kind="stable")]
    ends = ends_of_batches(reader.used_seconds[order], batch_seconds)

    def load(bounds: list[int]) -> SpectrogramBatch | None:
        return reader.batch([{"row": row} for row in order[slice(*bounds)].tolist()])

    yield from _loaded(read_sequence([list(bounds) for bounds in pairwise([0, *ends])]), load)


def _loaded(builder: DataPipelineBuilder, load: Callable[[Any], SpectrogramBatch | None]) -> DataPipeline:
    # One call at a time: fairseq2 0.8.1 loses its place on resuming a parallel `map`. Prefetching runs beside the model
    # all the same, and the native transform spreads a clip's frames over threads.
    return builder.map(load).filter(lambda batch: batch is not None).prefetch(PREFETCHED_BATCHES).and_return()


class _Reader:
    """Gives spectrograms of clips by their row, to several threads."""

    def __init__(self, manifest: Manifest, front_end: FrontEnd, crop_seconds: float) -> None:
        self.seconds = manifest.seconds
        # A file may have grown since its header was read, but no bucket is wider than the manifest's longest clip.
        self.used_seconds = np.minimum(np.where(self.seconds > 0, self.seconds, crop_seconds), crop_seconds)
        self.failures_in_a_row = 0
        self._manifest = manifest
        self._front_end = front_end
        self._transform = front_end.transform
        # As they are now: whatever is set on the front end later does not reach the transform.
        self._frames_key = front_end.frames_key
        self._cache = clip_cache()
        self._stream = self._cache.begin()
        self._reported: set[int] = set()
        self._lock = threading.Lock()

    def frames(self, row: int) -> int:
        """How many frames are read of a clip, to within a rounding."""
        return math.ceil(float(self.used_seconds[row]) / self._front_end.hop_seconds)

    def batch(self, wanted: Sequence[Example]) -> SpectrogramBatch | None:
        """Read stretches of clips into a batch without those that cannot be read; None where that leaves none.

        Args:
            wanted: each with its `row`; for training also its `start` in seconds, whether the same stretch
                `comes_again` whenever this clip is read, and its `draw`
        """
        found = [
            (item, self._read(item["row"], item.get("start", 0.0), item.get("comes_again", True))) for item in wanted
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
            draws=torch.tensor([item["draw"] for item, _ in read]) if "draw" in wanted[0] else None,
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
        """All that decides the frames of a stretch, as the file is before it is read; None where that is unknown."""
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
            is_news = row not in self._reported
            self._reported.add(row)
        if is_news:
            log.warning("left out: %s", error)


def _labels(manifest: Manifest, rows: list[int]) -> Tensor | None:
    """(B,) int64 with -1 for clips without a label, or (B, classes) float32 where clips carry several."""
    if not manifest.label_names:
        return None
    if not manifest.multi_label:
        return torch.tensor([next(iter(manifest.labels[row]), -1) for row in rows])
    labels = torch.zeros(len(rows), len(manifest.label_names))
    for place, row in enumerate(rows):
        labels[place, list(manifest.labels[row])] = 1.0
    return labels


def _buckets(seconds: npt.NDArray[np.float64], batch_seconds: float, hop_seconds: float) -> list[tuple[int, int]]:
    """(clips, longest clip in frames) of each bucket: as few as leave no more than `PADDING` of their batches empty.

    Each holds a batch or more of every pass, or batches would hold the same few clips again and again.

    Args:
        seconds: (clips,) how much of each clip is used
    """
    edges = _edges(seconds, batch_seconds)
    # A frame more than the header promises is in reach of rounding in the resampler.
    frames = np.ceil(edges / hop_seconds).astype(int) + 2
    return [(max(1, int(batch_seconds / hop_seconds / edge)), int(edge)) for edge in np.unique(frames)]


def _edges(seconds: npt.NDArray[np.float64], batch_seconds: float) -> npt.NDArray[np.float64]:
    """The longest clip of each bucket, such that so many buckets pad least.

    Found exactly among quantiles: the best edges for one bucket more extend the best ones for those before.
    """
    ascending = np.sort(seconds)
    edges = np.unique(np.quantile(ascending, np.linspace(0, 1, _EDGES + 1)[1:], method="higher"))
    held = np.searchsorted(ascending, edges, side="right")
    # Row i, column j: what a bucket takes from behind edge i - 1 up to edge j, padded to edge j.
    padded = (held[None, :] - np.append(0, held[:-1])[:, None]) * edges[None, :]
    allowed = (np.arange(len(edges))[:, None] <= np.arange(len(edges))[None, :]) & (padded >= batch_seconds)
    padded = np.where(allowed, padded, np.inf)
    least = np.where(padded[0] >= batch_seconds, padded[0], np.inf)  # up to each edge, with one bucket
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
    """Cut clips, shortest first, into batches: where each ends.

    A batch holds one clip at least, no more than `batch_seconds` with its padding, and no more padding than `PADDING`.
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
