"""A corpus checks itself: one pass over the audio that finds every recording which cannot be used.

Notable choices: each clip is decoded once, and the caller may take its waveform in the same pass (for the statistics
of a front end); a few clips are decoded ahead on threads, so that memory does not grow with the corpus; the first
reason found is the one reported. libsndfile decodes a truncated wav without a word and mends its frame count, hence
the file's own chunk sizes are compared with what is there (`containers`).
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.corpus import SPLITS, Manifest
from ..core.errors import CorpusError
from .containers import missing_bytes
from .decode import read_native, to_mono
from .settings import SurveyRules

REASONS = ("missing", "unreadable", "empty", "non_finite", "truncated", "too_short", "silent", "clipped")

_THREADS = 2
_AHEAD = 4
_EXAMPLES = 3
_FULL_SCALE = 0.999
# Samples of one value at full scale that make a flat run; shorter ones occur in peaks that are not clipped.
_FLAT_RUN = 3


@dataclass(frozen=True)
class BadFile:
    """A recording that cannot be used: its path in the manifest, one of `REASONS`, and the numbers."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Survey:
    """What the pass found.

    Attributes:
        clips: how many recordings were looked at
        good: (clips - bad,) int64, the manifest's rows that can be used, in order
        bad: the others
        hours: decoded length of the good ones, by split
    """

    clips: int
    good: npt.NDArray[np.int64]
    bad: list[BadFile]
    hours: dict[str, float]

    @property
    def counts(self) -> dict[str, int]:
        """How many recordings are bad for each reason, the most frequent first."""
        return dict(Counter(file.reason for file in self.bad).most_common())

    def write_bad_files(self, path: Path) -> None:
        """Write one JSON object a line with path, reason and detail (`bad_files.jsonl`)."""
        path.write_text("".join(json.dumps(asdict(file)) + "\n" for file in self.bad), encoding="utf-8")

    def raise_if_too_many(self, max_bad_share: float) -> None:
        """Refuse a corpus with more than a share of bad recordings in [0, 1], or with no good one.

        Raises:
            CorpusError: with each reason, its count, its first examples and the remedy.
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
                    "Mend the recordings, take them out of the corpus, or relax the survey's rules.",
                ]
            )
        )

    def _examples(self, reason: str) -> str:
        files = [file for file in self.bad if file.reason == reason]
        told = "; ".join(f"`{file.path}` {file.detail}" for file in files[:_EXAMPLES])
        return f"such as {told}" if len(files) > _EXAMPLES else told


@dataclass(frozen=True)
class _Finding:
    fault: BadFile | None
    waveform: npt.NDArray[np.float32]
    seconds: float


def survey(
    manifest: Manifest,
    rules: SurveyRules,
    sample_rate: int,
    *,
    on_clip: Callable[[int, npt.NDArray[np.float32]], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    declared_seconds: npt.NDArray[np.float64] | None = None,
) -> Survey:
    """Decode every recording once and sort the good from the bad.

    Args:
        manifest: the recordings
        rules: when a recording counts as bad
        sample_rate: of the waveforms given to `on_clip`, in Hz
        on_clip: called with the row and the mono (S,) float32 waveform of each good recording, in the manifest's order
        progress: called with how many recordings are done and how many there are
        declared_seconds: (clips,) how long each recording should be; NaN where that is unknown
    """
    declared = np.full(len(manifest), np.nan) if declared_seconds is None else declared_seconds
    good: list[int] = []
    bad: list[BadFile] = []
    seconds = dict.fromkeys(SPLITS, 0.0)

    def examine(row: int) -> _Finding:
        return _examine(manifest, row, rules, sample_rate, float(declared[row]))

    for row, finding in enumerate(_in_order(examine, len(manifest))):
        if finding.fault is not None:
            bad.append(finding.fault)
        else:
            good.append(row)
            seconds[str(manifest.splits[row])] += finding.seconds
            if on_clip is not None:
                on_clip(row, finding.waveform)
        if progress is not None:
            progress(row + 1, len(manifest))
    hours = {split: total / 3600 for split, total in seconds.items() if total}
    return Survey(len(manifest), np.array(good, dtype=np.int64), bad, hours)


def _in_order(examine: Callable[[int], _Finding], rows: int) -> Iterator[_Finding]:
    """Examine the rows on threads, a few ahead of the one that is given out."""
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

    def finding(fault: tuple[str, str] | None, waveform: npt.NDArray[np.float32], seconds: float) -> _Finding:
        return _Finding(BadFile(str(manifest.paths[row]), *fault) if fault else None, waveform, seconds)

    nothing = np.empty(0, np.float32)
    if not path.is_file():
        return finding(("missing", f"not in `{manifest.root}`"), nothing, 0.0)
    try:
        samples, native_rate = read_native(path)
    except CorpusError as error:
        return finding(("unreadable", str(error)), nothing, 0.0)
    mono = to_mono(samples, native_rate, native_rate)
    stated = max(float(manifest.seconds[row]), declared_seconds if declared_seconds > 0 else 0.0)
    fault = (
        _fault_of_length(path, len(samples) / native_rate, stated, rules)
        or _fault_of_level(mono, rules)
        or _clipping(samples, rules)
    )
    waveform = nothing if fault else to_mono(samples, native_rate, sample_rate)
    return finding(fault, waveform, len(samples) / native_rate)


def _fault_of_length(path: Path, seconds: float, stated: float, rules: SurveyRules) -> tuple[str, str] | None:
    if seconds == 0:
        return "empty", "no samples"
    if missing := missing_bytes(path):
        return "truncated", f"the file ends {missing} bytes before its header says"
    if stated - seconds > rules.truncated_seconds:
        return "truncated", f"{seconds:.3f} s of the {stated:.3f} s stated"
    if seconds < rules.min_seconds:
        return "too_short", f"{seconds:.3f} s, less than {rules.min_seconds:g} s"
    return None


def _fault_of_level(mono: npt.NDArray[np.float32], rules: SurveyRules) -> tuple[str, str] | None:
    if not np.isfinite(mono).all():
        return "non_finite", f"{int((~np.isfinite(mono)).sum())} samples are NaN or infinite"
    peak, rms = _dbfs(float(np.abs(mono).max())), _dbfs(float(np.sqrt(np.mean(np.square(mono, dtype=np.float64)))))
    if peak < rules.silent_peak_dbfs:
        return "silent", f"peak {peak:.0f} dBFS, below {rules.silent_peak_dbfs:g} dBFS"
    if rms < rules.silent_rms_dbfs:
        return "silent", f"root mean square {rms:.0f} dBFS, below {rules.silent_rms_dbfs:g} dBFS"
    return None


def _clipping(samples: npt.NDArray[np.float32], rules: SurveyRules) -> tuple[str, str] | None:
    share = clipped_share(samples)
    if share <= rules.max_clipped_share:
        return None
    return "clipped", f"{share:.1%} of the samples lie flat at full scale, more than {rules.max_clipped_share:.1%}"


def clipped_share(samples: npt.NDArray[np.float32]) -> float:
    """Share in [0, 1] of (S, channels) samples that lie in runs of one value at full scale."""
    full = np.abs(samples) >= _FULL_SCALE
    if not full.any():
        return 0.0
    windows = len(samples) - _FLAT_RUN + 1
    starts = full[:windows].copy() if windows > 0 else full[:0].copy()
    for shift in range(1, _FLAT_RUN):
        starts &= samples[shift : windows + shift] == samples[:windows]
    in_run = np.zeros_like(full)
    for shift in range(_FLAT_RUN):
        in_run[shift : windows + shift] |= starts
    return float(in_run.mean())


def _dbfs(amplitude: float) -> float:
    return 20 * float(np.log10(max(amplitude, 1e-10)))
