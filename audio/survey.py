"""Survey a corpus: one pass over the audio that finds every recording which cannot be used.

Notable choices:

- Recordings are read in stretches of a minute, and threads read a few recordings ahead, so memory use grows neither
  with the corpus nor with the length of a recording.
- The caller may receive the waveforms in the same pass, to compute the statistics of a front end. Only recordings of
  several stretches are decoded a second time for this.
- Only the first fault of a recording is reported.
- The chunk sizes in the header are compared with the size of the file (`containers`), because libsndfile decodes a
  truncated wav without an error and corrects its frame count.
- A recording whose decoder prints messages is listed as damaged and stays in use. MP3 decoders skip frames that they
  cannot read, and also report harmless faults, such as a wrong length in the header.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from ..core.corpus import SPLITS
from ..core.errors import CorpusError
from ..core.manifest import Manifest
from ..core.store import Artifact
from .containers import missing_bytes
from .corpus_config import SurveyRules
from .decode import open_sound, to_mono

GOOD_ROWS = "good_rows.npy"

STRETCH_SECONDS = 60.0
"""Longest piece of a recording that is held in memory at once, in seconds."""

REASONS = ("missing", "unreadable", "empty", "non_finite", "truncated", "too_short", "silent", "clipped")

DAMAGED = "damaged"
"""Reason of recordings that are listed although they are used."""

_THREADS = 2
_AHEAD = 4
_EXAMPLES = 3
_FULL_SCALE = 0.999
# Minimum number of equal samples at full scale in a flat run. Shorter runs occur in peaks that are not clipped.
_FLAT_RUN = 3


@dataclass(frozen=True)
class BadFile:
    """A recording with a fault: its path in the manifest, the reason, and details with numbers.

    The reason is one of `REASONS` if the recording cannot be used, else `DAMAGED`.
    """

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Survey:
    """The result of a survey.

    Attributes:
        clips: number of recordings in the corpus
        good: (clips - bad,) int64, the manifest rows that can be used, ascending
        bad: the recordings that cannot be used
        hours: decoded length of the good recordings by split
        damaged: the good recordings whose decoder printed messages
    """

    clips: int
    good: npt.NDArray[np.int64]
    bad: list[BadFile]
    hours: dict[str, float]
    damaged: list[BadFile]

    @property
    def counts(self) -> dict[str, int]:
        """Number of bad recordings by reason, the most frequent reason first."""
        return dict(Counter(file.reason for file in self.bad).most_common())

    def write_bad_files(self, path: Path) -> None:
        """Write one JSON object per line with path, reason and detail: the bad recordings, then the damaged ones."""
        lines = [json.dumps(asdict(file)) + "\n" for file in [*self.bad, *self.damaged]]
        path.write_text("".join(lines), encoding="utf-8")

    def raise_if_too_many(self, max_bad_share: float) -> None:
        """Refuse a corpus with a larger share of bad recordings than allowed, or without a good one.

        Args:
            max_bad_share: the allowed share, in [0, 1]

        Raises:
            CorpusError: with each reason, its count, its first examples and the remedy
        """
        share = len(self.bad) / max(self.clips, 1)
        if share <= max_bad_share and self.good.size:
            return
        reasons = [f"  {reason}: {count}, {self._examples(reason)}" for reason, count in self.counts.items()]
        raise CorpusError(
            "\n".join(
                [
                    f"{len(self.bad)} of {self.clips} recordings ({share:.1%}) cannot be used; "
                    f"allowed: {max_bad_share:.1%} (`max_bad_share`) and at least one good recording.",
                    *reasons,
                    "Fix the recordings, remove them from the corpus, or relax the survey's rules.",
                ]
            )
        )

    def _examples(self, reason: str) -> str:
        files = [file for file in self.bad if file.reason == reason]
        described = "; ".join(f"`{file.path}` {file.detail}" for file in files[:_EXAMPLES])
        return f"such as {described}" if len(files) > _EXAMPLES else described


@dataclass(frozen=True)
class _Finding:
    """The result for one recording. `waveform` is set only for a good recording of a single stretch."""

    fault: BadFile | None
    seconds: float = 0.0
    waveform: npt.NDArray[np.float32] | None = None
    damage: BadFile | None = None


def survey(
    manifest: Manifest,
    rules: SurveyRules,
    sample_rate: int,
    *,
    on_clip: Callable[[int, npt.NDArray[np.float32]], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    declared_seconds: npt.NDArray[np.float64] | None = None,
) -> Survey:
    """Read every recording and find the bad ones.

    Args:
        manifest: the recordings
        rules: limits beyond which a recording counts as bad
        sample_rate: rate of the waveforms given to `on_clip`, in Hz
        on_clip: called with the row and the mono (S,) float32 waveform of each good recording, in the manifest's order.
            For a recording longer than `STRETCH_SECONDS` it is called once per stretch. Stretches are resampled
            separately.
        progress: called with the number of finished recordings and the number of all recordings
        declared_seconds: (clips,) expected length of each recording; NaN where it is unknown
    """
    declared = np.full(len(manifest), np.nan) if declared_seconds is None else declared_seconds
    good = np.zeros(len(manifest), dtype=np.bool_)
    bad: list[BadFile] = []
    damaged: list[BadFile] = []
    seconds = dict.fromkeys(SPLITS, 0.0)

    def examine(row: int) -> _Finding:
        return _examine(manifest, row, rules, sample_rate, float(declared[row]))

    for row, finding in enumerate(_in_order(examine, len(manifest))):
        if finding.fault is not None:
            bad.append(finding.fault)
        else:
            good[row] = True
            seconds[str(manifest.splits[row])] += finding.seconds
            damaged += [finding.damage] if finding.damage else []
            if on_clip is not None and finding.waveform is not None:
                on_clip(row, finding.waveform)
            elif on_clip is not None:
                for waveform in _waveforms(manifest.path(row), sample_rate):
                    on_clip(row, waveform)
        if progress is not None:
            progress(row + 1, len(manifest))
    hours = {split: total / 3600 for split, total in seconds.items() if total}
    return Survey(len(manifest), np.flatnonzero(good).astype(np.int64), bad, hours, damaged)


def _in_order(examine: Callable[[int], _Finding], rows: int) -> Iterator[_Finding]:
    """Examine the rows on threads, a few rows ahead of the yielded one."""
    ahead: deque[Future[_Finding]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for row in range(rows):
            ahead.append(pool.submit(examine, row))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _examine(manifest: Manifest, row: int, rules: SurveyRules, sample_rate: int, declared_seconds: float) -> _Finding:
    path = manifest.path(row)

    def found(reason: str, detail: str) -> BadFile:
        return BadFile(str(manifest.paths[row]), reason, detail)

    if not path.exists():
        return _Finding(found("missing", f"not in `{manifest.root}`"))
    heard, waveform = _Heard(), None
    try:
        with open_sound(path) as file:
            for samples in _stretches(file):
                waveform = to_mono(samples, file.samplerate, sample_rate) if not heard.frames else None
                heard.add(samples)
            seconds = heard.frames / file.samplerate
    except CorpusError as error:
        return _Finding(found("unreadable", str(error)))
    stated = max(float(manifest.seconds[row]), declared_seconds if declared_seconds > 0 else 0.0)
    fault = _fault_of_length(path, seconds, stated, rules) or _fault_of_level(heard, rules) or _clipping(heard, rules)
    if fault:
        reason, detail = fault
        return _Finding(found(reason, f"{detail}; {file.notes}" if file.notes else detail))
    return _Finding(None, seconds, waveform, found(DAMAGED, f"used; {file.notes}") if file.notes else None)


def _stretches(file: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    """Read consecutive stretches of a recording, (S, channels) each, at its native rate."""
    while len(samples := file.read(max(1, round(STRETCH_SECONDS * file.samplerate)), dtype="float32", always_2d=True)):
        yield samples


def _waveforms(path: Path, sample_rate: int) -> Iterator[npt.NDArray[np.float32]]:
    with open_sound(path) as file:
        for samples in _stretches(file):
            yield to_mono(samples, file.samplerate, sample_rate)


class _Heard:
    """Level and clipping of a recording, accumulated over its stretches. The result is that of the whole recording."""

    def __init__(self) -> None:
        self.frames = 0
        self.not_finite = 0
        self.peak = 0.0
        self._power = 0.0
        self._channels = 1
        self._flat = 0
        self._tail: npt.NDArray[np.float32] | None = None

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """Add the next (S, channels) samples."""
        with np.errstate(invalid="ignore"):  # the mean of +inf and -inf
            mono = to_mono(samples, 1, 1)
        self.frames += len(samples)
        self.not_finite += int((~np.isfinite(mono)).sum())
        self.peak = max(self.peak, float(np.abs(mono).max()))
        self._power += float(np.square(mono, dtype=np.float64).sum())
        self._channels = samples.shape[1]
        self._add_flat_runs(samples)

    @property
    def root_mean_square(self) -> float:
        return float(np.sqrt(self._power / self.frames))

    @property
    def clipped_share(self) -> float:
        """Share in [0, 1] of all samples that are in flat runs at full scale."""
        return self._flat / (self.frames * self._channels)

    def _add_flat_runs(self, samples: npt.NDArray[np.float32]) -> None:
        """Count samples in flat runs, including runs that cross the border between two stretches."""
        tail = samples[:0] if self._tail is None else self._tail
        joined = np.concatenate([tail, samples])
        # A run that covers the whole tail was counted with the stretch before, hence the subtraction.
        self._flat += int(_in_flat_runs(joined).sum()) - int(_in_flat_runs(tail).sum())
        self._tail = joined[-_FLAT_RUN:].copy()


def _fault_of_length(path: Path, seconds: float, stated: float, rules: SurveyRules) -> tuple[str, str] | None:
    if seconds == 0:
        return "empty", "no samples"
    if missing := missing_bytes(path):
        return "truncated", f"the file ends {missing} bytes before the end that its header states"
    if stated - seconds > rules.truncated_seconds:
        return "truncated", f"{seconds:.3f} s of the {stated:.3f} s stated"
    if seconds < rules.min_seconds:
        return "too_short", f"{seconds:.3f} s, less than {rules.min_seconds:g} s"
    return None


def _fault_of_level(heard: _Heard, rules: SurveyRules) -> tuple[str, str] | None:
    if heard.not_finite:
        return "non_finite", f"{heard.not_finite} samples are NaN or infinite"
    peak, rms = _dbfs(heard.peak), _dbfs(heard.root_mean_square)
    if peak < rules.silent_peak_dbfs:
        return "silent", f"peak {peak:.0f} dBFS, below {rules.silent_peak_dbfs:g} dBFS"
    if rms < rules.silent_rms_dbfs:
        return "silent", f"root mean square {rms:.0f} dBFS, below {rules.silent_rms_dbfs:g} dBFS"
    return None


def _clipping(heard: _Heard, rules: SurveyRules) -> tuple[str, str] | None:
    share = heard.clipped_share
    if share <= rules.max_clipped_share:
        return None
    return "clipped", f"{share:.1%} of the samples are flat at full scale, more than {rules.max_clipped_share:.1%}"


def clipped_share(samples: npt.NDArray[np.float32]) -> float:
    """Compute the share in [0, 1] of (S, channels) samples that are in flat runs at full scale."""
    return float(_in_flat_runs(samples).mean()) if samples.size else 0.0


def _in_flat_runs(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Find the samples in runs of equal values at full scale: (S, channels) bool."""
    full = np.abs(samples) >= _FULL_SCALE
    in_run = np.zeros_like(full)
    windows = len(samples) - _FLAT_RUN + 1
    if windows <= 0 or not full.any():
        return in_run
    starts = full[:windows].copy()
    for shift in range(1, _FLAT_RUN):
        starts &= samples[shift : windows + shift] == samples[:windows]
    for shift in range(_FLAT_RUN):
        in_run[shift : windows + shift] |= starts
    return in_run


def _dbfs(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 1e-10)))


def good_rows(survey: Artifact, manifest: Manifest, splits: Sequence[str]) -> npt.NDArray[np.int64]:
    """Load the good rows of some splits from the artifact of a survey, ascending."""
    good: npt.NDArray[np.int64] = np.load(survey.file(GOOD_ROWS), allow_pickle=False)
    return good[np.isin(manifest.splits[good], list(splits))]
