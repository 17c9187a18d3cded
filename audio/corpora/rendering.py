"""Corpora that are rendered on first use and kept in a cache.

Notable choices:

- The cache is `$OSSICLE_CACHE`, else `~/.cache/ossicle`. The folder of a rendered set is named by its version and the
  hash of its configuration. It gets that name only when it is complete, so two processes may render at the same time.
- A clip's file name ends with the digest of its samples, so the manifest's fingerprint depends on the audio.
- What only rendering or a manifest needs is imported there, because `ossicle check` only counts clips.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
import wave
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ...core.config import Config
from ...core.corpus import Corpus
from ...core.errors import CorpusError
from ..corpus_overview import CorpusOverview
from .cache import cache_folder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ...core.manifest import Manifest

SAMPLE_RATE = 16_000

_log = logging.getLogger(__name__)
_TABLE = "manifest.csv"


class RenderedClip(NamedTuple):
    """One rendered clip: its path inside the set, split, label (empty if it has none), length, and content."""

    path: str
    split: str
    label: str
    frames: int
    content: str


class RenderedCorpus(Corpus):
    """Base class of rendered corpora, 16 kHz mono."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Increased with every change that alters the audio."""
    package: ClassVar[str]
    """The package that contains the sounds."""

    def __init__(self, config: Config) -> None:
        self._settings = config

    @property
    @abstractmethod
    def label_names(self) -> tuple[str, ...]:
        """The name of each label id."""

    @abstractmethod
    def jobs(self) -> tuple[str, Sequence[dict[str, Any]]]:
        """Return the `package.module:function` that renders one job, and the jobs. Each runs in a separate process.

        The function gets the folder to write to and the job, and returns the clips that it wrote.
        """

    @property
    def folder(self) -> Path:
        """The folder of the rendered set."""
        settings = hashlib.sha256(self._settings.model_dump_json().encode()).hexdigest()[:12]
        return cache_folder() / self.name / f"v{self.version}-{settings}"

    @property
    def is_ready(self) -> bool:
        return (self.folder / _TABLE).is_file()

    def prepare(self) -> None:
        """Render the clips unless they exist.

        Raises:
            CorpusError: if the package that contains the sounds is missing, or rendering fails
        """
        if self.is_ready:
            return
        if problems := self.problems():
            raise CorpusError("\n".join(problems))
        from .render_processes import render

        self.folder.parent.mkdir(parents=True, exist_ok=True)
        _log.info("rendering `%s` into %s, once", self.name, self.folder)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self.folder.parent))
        try:
            function, jobs = self.jobs()
            _write_table(unfinished / _TABLE, render(function, jobs, unfinished))
            _publish(unfinished, self.folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def manifest(self) -> Manifest:
        """List the clips, after rendering them if necessary."""
        import numpy as np

        from ...core.manifest import Labels, Manifest, text_column

        self.prepare()
        clips = _read_table(self.folder / _TABLE)
        ids = {name: number for number, name in enumerate(self.label_names)}
        return Manifest(
            root=self.folder,
            paths=text_column(clip.path for clip in clips),
            frames=np.array([clip.frames for clip in clips], dtype=np.int64),
            sample_rates=np.full(len(clips), SAMPLE_RATE, dtype=np.int32),
            splits=np.array([clip.split for clip in clips], dtype=np.str_),
            labels=Labels.of([(ids[clip.label],) if clip.label else () for clip in clips]),
            label_names=self.label_names,
        )

    def overview(self) -> CorpusOverview:
        """Count the rendered clips, without making a manifest unless a subclass has its own."""
        if type(self).manifest is not RenderedCorpus.manifest:
            return CorpusOverview.of(self.manifest())
        clips = _read_table(self.folder / _TABLE)
        return CorpusOverview(Counter((clip.split, -1, bool(clip.label)) for clip in clips), bool(self.label_names))

    def contents(self) -> list[str]:
        """Return the content of each clip of the manifest: its notes, or its voice."""
        self.prepare()
        return [clip.content for clip in _read_table(self.folder / _TABLE)]

    def problems(self) -> list[str]:
        """Report a missing package, unless the clips are already rendered."""
        if self.is_ready or importlib.util.find_spec(self.package) is not None:
            return []
        return [
            f"`{self.name}` is rendered with data from the package `{self.package}`, which is not installed; "
            "run `pip install 'ossicle[corpora]'`."
        ]


def package_folder(package: str) -> Path:
    """Find the folder of an installed package without importing it.

    Raises:
        CorpusError: if it is not installed
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise CorpusError(f"the package `{package}` is not installed; run `pip install 'ossicle[corpora]'`.")
    return Path(spec.origin).parent


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_clip(
    folder: Path, samples: npt.NDArray[np.int16], *, split: str, label: str, name: str, content: str
) -> RenderedClip:
    """Write (S,) 16-bit samples at 16 kHz below `folder` as `split/label/name-digest.wav`."""
    data = samples.astype("<i2").tobytes()
    digest = hashlib.sha256(data).hexdigest()[:8]
    path = Path(split, label, f"{name}-{digest}.wav")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    # soundfile would wait for the disk after each file.
    with wave.open(str(folder / path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(data)
    return RenderedClip(path.as_posix(), split, label, len(samples), content)


def _write_table(path: Path, clips: Iterable[RenderedClip]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(RenderedClip._fields)
        writer.writerows(clips)


def _read_table(path: Path) -> list[RenderedClip]:
    with path.open(newline="", encoding="utf-8") as file:
        # `csv.DictReader` would take most of the time that `ossicle check` spends on a corpus.
        rows = csv.reader(file)
        next(rows, None)  # the names of the columns, in the order of the fields
        return [RenderedClip(path, split, label, int(frames), content) for path, split, label, frames, content in rows]


def _publish(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        # Another process finished first. Its clips are the same.
        if not (folder / _TABLE).is_file():
            raise
