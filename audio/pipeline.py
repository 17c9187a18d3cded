"""From a manifest to batches of spectrograms, in fairseq2's `DataPipeline`, whose state resumes exactly.

Notable choices: a clip's place in the stream decides its row and its crop, so that the only state is a number and what
waits in buckets (fairseq2's own `shuffle` and `repeat` lose clips on resuming at the end of an epoch); the stream never
ends, so that no batch is cut short at the end of an epoch; clips of similar length share a batch; the spectrogram of a
stretch that is the same every time is kept in memory (`kept_clips`). A file that cannot be read is reported once and
left out; when no file can be read any more, the stream ends in an error instead of searching for ever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
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
from .decode import decode
from .kept_clips import Clip, kept_clips, state_of

log = logging.getLogger("ossicle")

BUCKETS = 12
PREFETCHED_BATCHES = 2

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

    def load(number: int) -> Example | None:
        appearance = first + number * world_size + rank
        epoch, place = divmod(appearance, len(rows))
        row = int(order(epoch)[place])
        generator = np.random.default_rng((seed, appearance))
        excess = max(0.0, float(reader.seconds[row]) - crop_seconds)
        example = reader.read(row, excess * generator.random(), comes_again=excess == 0.0)
        if example is not None:
            example["draw"] = int(generator.integers(2**63))
        elif reader.failures_in_a_row > len(rows):
            raise CorpusError("none of the clips to train on can be read any more; the warnings above say why")
        return example

    builder = _examples(DataPipeline.count(), load)
    durations = np.minimum(reader.seconds[rows], crop_seconds)
    builder.bucket_by_length(_buckets(durations, batch_seconds, front_end), selector="fbank")
    return builder.prefetch(PREFETCHED_BATCHES).map(_batcher(manifest)).and_return()


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
    order = rows[np.argsort(reader.seconds[rows], kind="stable")]
    builder = _examples(read_sequence(order.tolist()), reader.read)
    builder.dynamic_bucket(batch_seconds, lambda example: len(example["fbank"]) * front_end.hop_seconds)
    yield from builder.prefetch(PREFETCHED_BATCHES).map(_batcher(manifest)).and_return()


def _examples(builder: DataPipelineBuilder, load: Callable[[Any], Example | None]) -> DataPipelineBuilder:
    # One call at a time: fairseq2 0.8.1 loses its place on resuming a parallel `map`. Prefetching runs beside the model
    # all the same, and the native transform spreads a clip's frames over threads.
    return builder.map(load).filter(lambda example: example is not None)


class _Reader:
    """Gives spectrograms of clips by their row, to several threads."""

    def __init__(self, manifest: Manifest, front_end: FrontEnd, crop_seconds: float) -> None:
        self.seconds = manifest.seconds
        self.failures_in_a_row = 0
        self._manifest = manifest
        self._front_end = front_end
        self._transform = front_end.transform
        # As they are now: whatever is set on the front end later does not reach the transform.
        self._frames_key = front_end.frames_key
        self._crop_seconds = crop_seconds
        self._kept = kept_clips()
        self._stream = self._kept.begin()
        self._reported: set[int] = set()
        self._lock = threading.Lock()

    def read(self, row: int, start_seconds: float = 0.0, *, comes_again: bool = True) -> Example | None:
        """Give a stretch of a clip; None where it cannot be read.

        What waits in buckets is part of every checkpoint: an example holds no more than its batch needs.

        Args:
            comes_again: whether the stretch is the same whenever this clip is read
        """
        path = self._manifest.path(row)
        # A file may have grown since its header was read, but no bucket is wider than the manifest's longest clip.
        seconds = min(self._crop_seconds, float(self.seconds[row]) or self._crop_seconds)
        key = self._key(path, start_seconds, seconds) if comes_again else None
        clip = None if key is None else self._kept.get(key, self._stream)
        if clip is None:
            try:
                clip = self._spectrogram(path, start_seconds, seconds)
            except CorpusError as error:
                self._report(row, error)
                return None
            if key is not None:
                self._kept.put(key, clip, self._stream)
        self.failures_in_a_row = 0
        return {"fbank": clip.fbank, "samples": clip.samples, "row": row}

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


def _batcher(manifest: Manifest) -> Callable[[list[Example]], SpectrogramBatch]:
    def batch(examples: list[Example]) -> SpectrogramBatch:
        rows = [example["row"] for example in examples]
        return SpectrogramBatch(
            frames=nn.utils.rnn.pad_sequence([example["fbank"] for example in examples], batch_first=True),
            lengths=torch.tensor([len(example["fbank"]) for example in examples]),
            samples=torch.tensor([example["samples"] for example in examples]),
            clips=torch.tensor(rows),
            labels=_labels(manifest, rows),
            draws=torch.tensor([example["draw"] for example in examples]) if "draw" in examples[0] else None,
        )

    return batch


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


def _buckets(seconds: npt.NDArray[np.float64], batch_seconds: float, front_end: FrontEnd) -> list[tuple[int, int]]:
    """(clips, longest clip in frames) of each bucket; the edges are quantiles of the clips' durations.

    There are no more buckets than one pass fills, or a batch would hold the same few clips again and again.
    """
    buckets = min(BUCKETS, max(1, int(seconds.sum() / batch_seconds)))
    # A frame more than the header promises is in reach of rounding in the resampler.
    frames = np.ceil(np.quantile(seconds, np.linspace(0, 1, buckets + 1)[1:]) / front_end.hop_seconds).astype(int) + 2
    budget = batch_seconds / front_end.hop_seconds
    return [(max(1, int(budget / edge)), int(edge)) for edge in np.unique(frames)]
