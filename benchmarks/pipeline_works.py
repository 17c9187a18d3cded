"""Works around the model: from clips on disk to batches, and a whole experiment.

Notable choices:

- The pipeline is compared with a loop that reads a file with soundfile and computes its frames with torchaudio, clip by
  clip and without batches.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Final

import numpy as np
import soundfile
import torch

from ..audio.corpora.folder import FolderCorpus
from ..audio.corpus_config import FolderConfig
from ..audio.pipeline import training_pipeline
from ..core.data import SpectrogramBatch
from .inference_works import front_end, released_frames
from .peers import Peer
from .work import CLIP_SECONDS, OURS, SAMPLE_RATE, Case, Contender, Work

CLIPS: Final = 32
QUICKSTART: Final = Path(__file__).parents[1] / "experiments" / "quickstart.yaml"
SCALED: Final = (
    "corpus.train_per_class=20",
    "corpus.valid_per_class=4",
    "corpus.test_per_class=10",
    "corpus.unlabelled=128",
    "evaluate=[knn_probe]",
    "pretrain.steps=40",
    "pretrain.warmup_steps=4",
    "pretrain.checkpoint_every=40",
    "schedule.distill.steps=20",
    "schedule.distill.warmup_steps=2",
    "schedule.distill.checkpoint_every=20",
)


def pipeline_work(case: Case, peers: Sequence[Peer]) -> Work:
    """Prepare the work from files to batches of frames. A turn processes as many clips as there are files."""
    root = Path(mkdtemp())
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for name, seconds in (("whole", CLIP_SECONDS), ("longer", CLIP_SECONDS + 0.5)):
        _write_clips(root / name, seconds)

    def ours(name: str, about: str) -> Callable[[], Contender]:
        def make() -> Contender:
            batches = _batches(root / name, case.batch)
            return Contender(lambda: _drain(batches), about)

        return make

    makers = {
        "soundfile and torchaudio": lambda: Contender(lambda: _read_in_a_loop(root / "longer"), "a loop over clips"),
        f"{OURS}, crops": ours("longer", "random stretches of 10 s, so every clip is decoded each time"),
        f"{OURS}, whole clips": ours("whole", "clips that are used whole, so their frames stay in memory"),
    }
    remark = f"{CLIPS} WAV files with 16 bits, batches of {case.batch} clips."
    return Work(case, CLIPS * CLIP_SECONDS, makers, "soundfile and torchaudio", remark=remark)


def _write_clips(folder: Path, seconds: float) -> None:
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(CLIPS):
        wave = 0.1 * draw.standard_normal(round(seconds * SAMPLE_RATE))
        soundfile.write(folder / f"{number}.wav", wave.astype(np.float32), SAMPLE_RATE)


def _batches(folder: Path, batch: int) -> Iterator[SpectrogramBatch]:
    manifest = FolderCorpus(FolderConfig(path=folder)).manifest()
    rows = np.arange(len(manifest))
    seconds = batch * (CLIP_SECONDS + 0.1)
    return iter(
        training_pipeline(manifest, rows, front_end().cpu(), batch_seconds=seconds, crop_seconds=CLIP_SECONDS, seed=0)
    )


def _drain(batches: Iterator[SpectrogramBatch]) -> None:
    """Read batches until they have as many clips as there are files."""
    taken = 0
    while taken < CLIPS:
        taken += len(next(batches).lengths)


def _read_in_a_loop(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        waveform, _ = soundfile.read(path, frames=round(CLIP_SECONDS * SAMPLE_RATE), dtype="float32")
        released_frames(torch.from_numpy(waveform))


def quickstart_work(case: Case, peers: Sequence[Peer]) -> Work:
    """Prepare the work of a whole experiment: survey, trainings, probes, report."""

    def do() -> None:
        with TemporaryDirectory() as out:
            command = [sys.executable, "-m", "ossicle", "run", str(QUICKSTART), "--out", out, *SCALED]
            subprocess.run(command, check=True, capture_output=True)

    remark = (
        f"`ossicle run experiments/quickstart.yaml {' '.join(SCALED)}`: an eighth of its steps and of its clips, and "
        "one of its two probes. The corpus is rendered first if it is not in the cache."
    )
    makers = {OURS: lambda: Contender(do, "a separate process")}
    return Work(case, 0.0, makers, OURS, remark=remark)
