"""Measure how costs grow with the length of a clip and the size of a batch or a corpus.

Notable choices:

- Growth is an exponent, the slope of log cost over log size between the two largest sizes: 1 is proportional, 2 is
  quadratic.
- Corpora are simulated: the manifest has all columns and the recordings are silence. Opening a training on a million
  clips is thus measured without a million files.
- A long recording is embedded in a separate process, so that its peak memory can be measured.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import soundfile  # isort: skip  # fairseq2 takes its libsndfile, so it must come first
import numpy as np
import numpy.typing as npt
import torch

from ..audio import pipeline
from ..audio.front_end_config import KaldiFbankConfig
from ..audio.kaldi_fbank import KaldiFbank
from ..core.data import Grid, PatchBatch, SpectrogramBatch
from ..core.interfaces import Encoder, FrontEnd
from ..core.manifest import Labels, Manifest, text_column

RATE = 16000
T = TypeVar("T")


@dataclass(frozen=True)
class CorpusCost:
    """The cost of a corpus before the first training step.

    Attributes:
        clips: number of clips
        manifest_mib: memory of the manifest
        fingerprint_seconds: CPU time of its fingerprint
        first_batch_seconds: CPU time from the manifest to the first training batch, whose size is fixed
        first_batch_mib: memory of this beyond the manifest
    """

    clips: int
    manifest_mib: float
    fingerprint_seconds: float
    first_batch_seconds: float
    first_batch_mib: float


def corpus_costs(sizes: Sequence[int] = (100, 10_000, 1_000_000)) -> list[CorpusCost]:
    """Open a training over corpora of growing size."""
    return [_corpus_cost(clips) for clips in sizes]


def _corpus_cost(clips: int) -> CorpusCost:
    front_end = KaldiFbank(KaldiFbankConfig())
    before = _resident_mib()
    manifest = simulated(clips)
    manifest_mib = _resident_mib() - before
    fingerprint_seconds, _ = _cpu(manifest.fingerprint)
    before = _resident_mib()
    with silent_recordings():
        first_batch_seconds, _ = _cpu(lambda: first_batch(manifest, front_end))
    return CorpusCost(clips, manifest_mib, fingerprint_seconds, first_batch_seconds, _resident_mib() - before)


def first_batch(manifest: Manifest, front_end: FrontEnd) -> SpectrogramBatch:
    """Open a training and take its first batch."""
    stream = pipeline.training_pipeline(
        manifest, manifest.rows_in("train"), front_end, batch_seconds=32.0, crop_seconds=10.0, seed=0
    )
    batch: SpectrogramBatch = next(iter(stream))
    return batch


def simulated(clips: int, *, seed: int = 0, classes: int = 527) -> Manifest:
    """Create a manifest of labelled clips of 1 to 10 s (log-normal) that do not exist."""
    rng = np.random.default_rng(seed)
    return Manifest(
        root=Path("nowhere"),
        paths=text_column(f"{number % 1000:03}/clip_{number:08}.flac" for number in range(clips)),
        frames=(mixed_lengths(clips, seed=seed) * RATE).astype(np.int64),
        sample_rates=np.full(clips, RATE, np.int32),
        splits=np.array(["train", "valid", "test"])[rng.choice(3, clips, p=[0.96, 0.02, 0.02])],
        labels=Labels(rng.integers(0, classes, clips).astype(np.int32), np.arange(1, clips + 1)),
        label_names=tuple(f"class {number}" for number in range(classes)),
    )


def mixed_lengths(clips: int, *, seed: int = 0) -> npt.NDArray[np.float64]:
    """Draw durations in seconds: log-normal around 3 s, between 1 and 10 s."""
    lengths = np.random.default_rng(seed).lognormal(np.log(3.0), 0.7, clips)
    return lengths.clip(1.0, 10.0)


def silent_recordings() -> AbstractContextManager[object]:
    """Make data pipelines inside the `with` block read silence instead of files."""

    def silence(path: Path, rate: int, *, start_seconds: float, seconds: float) -> npt.NDArray[np.float32]:
        return np.zeros(round(rate * seconds), np.float32)

    return patch.object(pipeline, "decode", silence)


@dataclass(frozen=True)
class PaddingShare:
    """The share of padding among the patches of batches, in [0, 1]."""

    where: str
    batch_seconds: float
    share: float


def padding_shares(clips: int = 4000, *, batches: int = 12) -> list[PaddingShare]:
    """Measure padding in training batches and in one pass over a corpus of mixed lengths."""
    front_end, manifest = KaldiFbank(KaldiFbankConfig(mel_bins=16)), simulated(clips)
    rows = manifest.rows_in("train")
    few = np.random.default_rng(0).choice(rows, min(500, len(rows)), replace=False)

    def trained(batch_seconds: float) -> float:
        stream = pipeline.training_pipeline(
            manifest, rows, front_end, batch_seconds=batch_seconds, crop_seconds=10.0, seed=0
        )
        return padded_share(front_end, islice(stream, batches))

    def passed(batch_seconds: float) -> float:
        stream = pipeline.clip_batches(manifest, few, front_end, batch_seconds=batch_seconds, crop_seconds=10.0)
        return padded_share(front_end, stream)

    with silent_recordings():
        return [
            PaddingShare(where, batch_seconds, share(batch_seconds))
            for where, share in (("training", trained), ("one pass", passed))
            for batch_seconds in (32.0, 128.0)
        ]


def padded_share(front_end: FrontEnd, batches: Iterable[SpectrogramBatch]) -> float:
    """Compute the share of patches that are padding."""
    masks = [front_end.patches(batch).valid for batch in batches]
    return 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


@dataclass(frozen=True)
class EncodingCost:
    """The CPU time of one pass of an encoder."""

    clips: int
    seconds_of_audio: float
    cpu_seconds: float


def cost_by_length(
    encoder: Encoder, bands: int, lengths: Sequence[float] = (5.0, 10.0, 20.0, 40.0)
) -> list[EncodingCost]:
    """Encode one clip of growing length. Only attention may grow faster than the length."""
    return [_encoding_cost(encoder, bands, 1, seconds) for seconds in lengths]


def cost_by_batch(encoder: Encoder, bands: int, batches: Sequence[int] = (1, 2, 4, 8)) -> list[EncodingCost]:
    """Encode batches of growing size with clips of 10 s."""
    return [_encoding_cost(encoder, bands, clips, 10.0) for clips in batches]


@torch.inference_mode()
def _encoding_cost(encoder: Encoder, bands: int, clips: int, seconds: float) -> EncodingCost:
    grid = Grid(max(1, int(seconds / 0.16)), bands)
    patches = torch.randn(clips, grid.patches, 256, generator=torch.Generator().manual_seed(0))
    batch = PatchBatch(patches, torch.ones(clips, grid.patches, dtype=torch.bool), grid)
    encoder(batch)
    cpu_seconds = min(_cpu(lambda: encoder(batch))[0] for _ in range(3))
    return EncodingCost(clips, seconds, cpu_seconds)


@dataclass(frozen=True)
class RecordingCost:
    """The cost of `ossicle embed` for one recording."""

    minutes: float
    cpu_seconds: float
    peak_mib: float


def recording_costs(part: Path, minutes: Sequence[float] = (1, 10, 60)) -> list[RecordingCost]:
    """Embed recordings of growing length, each in a separate process.

    Args:
        part: an artifact, the folder of a run or a released checkpoint
    """
    with tempfile.TemporaryDirectory() as folder:
        return [_recording_cost(part, length, Path(folder)) for length in minutes]


def _recording_cost(part: Path, minutes: float, folder: Path) -> RecordingCost:
    recording = folder / "recording.wav"
    second = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    with soundfile.SoundFile(recording, "w", RATE, 1) as file:
        for _ in range(round(60 * minutes)):
            file.write(second)
    command = [sys.executable, "-c", _EMBED, "embed", str(part), str(recording), "--out", str(folder / "out.npz")]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cpu_seconds, peak_mib = map(float, shown.splitlines()[-1].split())
    return RecordingCost(minutes, cpu_seconds, peak_mib)


_EMBED = """
import resource, sys
from ossicle.cli import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(code)
"""


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Compute the exponent of a cost between the two largest sizes."""
    return math.log(costs[-1] / costs[-2]) / math.log(sizes[-1] / sizes[-2])


def rows(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Convert measurements to rows of a table, by the names of their fields."""
    return [asdict(item) for item in found]


def _cpu(work: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
