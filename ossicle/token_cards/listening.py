"""Listen to a token: examples of the sounds of selected codes.

Notable choices:

- Half of the examples are the most typical ones (patches nearest to the mean of all patches with the code). The rest
  are drawn at random, because typical examples look better than the code is.
- Every example comes from a different clip.
- The codes are selected by use and by their information about the class, unless they are given.
- Sounds are short excerpts at 24 kHz in MP3, which every browser plays, or in FLAC if libsndfile has no MP3 support.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch

from ..audio.patch_batches import waveform_patches
from ..core.errors import OssicleError
from ..core.interfaces import FrontEnd
from .clip_tokens import BATCH_SECONDS, ClipTokens, Ids
from .clips import DrawnClips, Wave
from .sources import Subject

SECONDS = 2.0
SAMPLE_RATE = 24_000
PEAK = 0.7
TYPICAL, RANDOM = 2, 2
FEWEST_CLIPS = 3
STREAM = 0


@dataclass(frozen=True)
class Example:
    """A patch with a code, and the sound around it.

    Attributes:
        clip: index of the clip among the drawn clips
        path: file of the clip, relative to the corpus
        label: class of the clip; empty if it has none
        typical: whether the example is typical or drawn at random
        column, band: position in the grid of the clip
        start, end: the excerpt in seconds from the beginning of the clip
        sound: the excerpt as a data URI
        frames: (T, F) spectrogram of the excerpt
        columns: number of time columns in the excerpt
        marked: all patches in the excerpt with the code, as (column, band), this one first
    """

    clip: int
    path: str
    label: str
    typical: bool
    column: int
    band: int
    start: float
    end: float
    sound: str = field(repr=False)
    frames: npt.NDArray[np.float32] = field(repr=False)
    columns: int
    marked: list[tuple[int, int]]


@dataclass(frozen=True)
class Code:
    """A code, its statistics, and examples of it.

    Attributes:
        why: the reason for its selection
        share: share of the code in all tokens
        clips: number of drawn clips with the code
        classes: its most frequent classes, each with the share of its tokens and of all tokens
        band_hz: the band in which it is most frequent, and the share of its tokens there
    """

    number: int
    why: str
    share: float
    clips: int
    classes: list[tuple[str, float, float]]
    band_hz: tuple[float, float, float]
    examples: list[Example]


def check_codes(subjects: Sequence[Subject], codes: Sequence[int]) -> None:
    """Check that all codebooks contain the codes.

    Raises:
        OssicleError: if a codebook lacks one
    """
    for subject in subjects:
        size = subject.tokenizer.codebook_size
        for code in codes:
            if not 0 <= code < size:
                raise OssicleError(f"there is no code {code}: `{subject.name}` has codes 0 to {size - 1}")


def listen(
    subject: Subject, tokens: ClipTokens, clips: DrawnClips, *, number: int, codes: Sequence[int] = (), seed: int
) -> list[Code]:
    """Find examples of codes of the first stream of a tokenizer.

    Args:
        number: number of codes to select if `codes` is empty
        codes: the codes to listen to, all of them in the codebook
    """
    ids = tokens.joined(STREAM)
    named = [(code, "Given by number") for code in codes if (ids == code).any()]
    chosen = named if codes else choose(tokens, clips.classes, number)
    positions = _examples(subject.part.front_end, tokens, clips, [code for code, _ in chosen], seed)
    return [_code(subject.part.front_end, tokens, clips, code, why, positions[code]) for code, why in chosen]


def choose(tokens: ClipTokens, classes: Ids | None, number: int) -> list[tuple[int, str]]:
    """Select codes to listen to, with reasons: frequent codes, and those with the most information about the class.

    Without classes, the second half is spread evenly over the ranks of use. Codes that occur in fewer than
    `FEWEST_CLIPS` clips are skipped.
    """
    ids = tokens.joined(STREAM)
    pairs = np.unique(np.stack([ids, tokens.clips]), axis=1)
    counts = np.bincount(ids)
    eligible = np.flatnonzero(np.bincount(pairs[0], minlength=len(counts)) >= FEWEST_CLIPS)
    by_use = eligible[np.argsort(-counts[eligible], kind="stable")].tolist()
    common = by_use[: (number + 1) // 2]
    rest = [code for code in by_use if code not in common]
    reasons = {code: f"Number {rank} by use" for rank, code in enumerate(by_use, 1)}
    if classes is None:
        others = [rest[rank] for rank in np.linspace(0, len(rest) - 1, min(len(rest), number // 2)).astype(int)]
    else:
        information = class_information(ids, np.repeat(classes, tokens.lengths))
        others = sorted(rest, key=lambda code: -information[code])[: number // 2]
        reasons |= dict.fromkeys(others, "Among those with the most information about the class")
    return [(code, reasons[code]) for code in [*common, *others]]


def class_information(ids: Ids, classes: Ids) -> npt.NDArray[np.float64]:
    """Compute the contribution of each code to the mutual information of token and class: (codes,) in nats."""
    table = np.zeros((ids.max() + 1, classes.max() + 1))
    np.add.at(table, (ids, classes), 1)
    joint = table / table.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    ratio = np.divide(joint, apart, out=np.ones_like(joint), where=joint > 0)
    information: npt.NDArray[np.float64] = (joint * np.log(ratio)).sum(1)
    return information


def _examples(
    front_end: FrontEnd, tokens: ClipTokens, clips: DrawnClips, codes: Sequence[int], seed: int
) -> dict[int, list[tuple[int, int, bool]]]:
    """Select for each code the clip and position of its examples, and whether they are typical."""
    stream = tokens.stream(STREAM)
    patches = _patches_of(front_end, stream, clips.waves[front_end.sample_rate], codes)
    found = {}
    for code in codes:
        clip, position, vectors = patches[code]
        distance = np.square(vectors - vectors.mean(0)).sum(1)
        nearest = _distinct(np.argsort(distance, kind="stable"), clip, TYPICAL, taken=set())
        taken = {int(clip[row]) for row in nearest}
        drawn = np.random.default_rng((seed, code)).permutation(len(clip))
        further = _distinct(drawn, clip, RANDOM, taken=taken)
        found[code] = [(int(clip[row]), int(position[row]), row in nearest) for row in [*nearest, *further]]
    return found


@torch.inference_mode()
def _patches_of(
    front_end: FrontEnd, stream: Sequence[Ids], waves: Sequence[Wave], codes: Sequence[int]
) -> dict[int, tuple[Ids, Ids, npt.NDArray[np.float32]]]:
    """Collect for each code the clips and positions where it occurs, and the patches there, (n, P)."""
    kept: dict[int, list[tuple[int, Ids, npt.NDArray[np.float32]]]] = {code: [] for code in codes}
    for batch in waveform_patches(waves, front_end, batch_seconds=BATCH_SECONDS):
        for clip, patches, valid in zip(batch.rows, batch.patches.cpu(), batch.valid.cpu(), strict=True):
            real = patches[valid]
            for code in codes:
                positions = np.flatnonzero(stream[clip] == code)
                if positions.size:
                    kept[code].append((clip, positions, real[torch.from_numpy(positions)].float().numpy()))
    found = {}
    for code, parts in kept.items():
        parts.sort(key=lambda part: part[0])
        clips = np.concatenate([np.full(len(positions), clip, dtype=np.int64) for clip, positions, _ in parts])
        found[code] = clips, np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])
    return found


def _distinct(order: Ids, clips: Ids, number: int, *, taken: set[int]) -> list[int]:
    """Select the first rows of an order that come from different clips, none of them in `taken`."""
    rows: list[int] = []
    seen = set(taken)
    for row in order.tolist():
        if len(rows) == number:
            break
        if int(clips[row]) not in seen:
            seen.add(int(clips[row]))
            rows.append(row)
    return rows


def _code(
    front_end: FrontEnd,
    tokens: ClipTokens,
    clips: DrawnClips,
    code: int,
    why: str,
    positions: Sequence[tuple[int, int, bool]],
) -> Code:
    ids = tokens.joined(STREAM)
    carried = ids == code
    bands = np.bincount(tokens.positions[carried] % tokens.bands)
    low, high = front_end.band_edges()[int(bands.argmax())].tolist()
    return Code(
        number=code,
        why=why,
        share=float(carried.mean()),
        clips=len(np.unique(tokens.clips[carried])),
        classes=_classes(tokens, clips, carried),
        band_hz=(low, high, float(bands.max() / bands.sum())),
        examples=[_example(front_end, tokens, clips, code, *position) for position in positions],
    )


def _classes(tokens: ClipTokens, clips: DrawnClips, carried: npt.NDArray[np.bool_]) -> list[tuple[str, float, float]]:
    if clips.classes is None:
        return []
    classes = np.repeat(clips.classes, tokens.lengths)
    names = clips.manifest.label_names
    here, anywhere = (np.bincount(found, minlength=len(names)) / len(found) for found in (classes[carried], classes))
    order = np.argsort(-here, kind="stable")[:3]
    return [(names[one], float(here[one]), float(anywhere[one])) for one in order.tolist() if here[one]]


def _example(
    front_end: FrontEnd, tokens: ClipTokens, clips: DrawnClips, code: int, clip: int, position: int, typical: bool
) -> Example:
    wave, rate = clips.waves[front_end.sample_rate][clip], front_end.sample_rate
    ids = tokens.stream(STREAM)[clip]
    column, band = divmod(position, tokens.bands)
    all_columns = -(-len(ids) // tokens.bands)
    times = front_end.column_times(all_columns).numpy()
    first, last = _window(times, column)
    start, end = float(times[first, 0]), min(float(times[last, 1]), len(wave) / rate)
    excerpt = wave[round(start * rate) : max(round(end * rate), round(start * rate) + 1)]
    inside = [divmod(int(one), tokens.bands) for one in np.flatnonzero(ids == code)]
    marked = [(one - first, row) for one, row in inside if first <= one <= last and (one, row) != (column, band)]
    manifest = clips.manifest
    return Example(
        clip=clip,
        path=str(manifest.paths[clip]),
        label=" + ".join(manifest.label_names[number] for number in manifest.labels[clip]),
        typical=typical,
        column=column,
        band=band,
        start=start,
        end=end,
        sound=playable(excerpt, rate),
        frames=front_end.spectrogram(torch.from_numpy(excerpt.copy())).numpy(),
        columns=last - first + 1,
        marked=[(column - first, band), *marked],
    )


def _window(times: npt.NDArray[np.float64], column: int) -> tuple[int, int]:
    """Return the first and last column of the excerpt: `SECONDS` around a column, within the clip."""
    width = times[1, 0] - times[0, 0] if len(times) > 1 else times[0, 1] - times[0, 0]
    most = max(1, int(SECONDS / width))
    first = max(0, min(column - most // 2, len(times) - most))
    return first, min(len(times), first + most) - 1


def playable(wave: Wave, sample_rate: int) -> str:
    """Encode a sound as a data URI that a browser plays. All sounds get the same peak level."""
    loud = wave * (PEAK / max(float(np.abs(wave).max()), 1e-6))
    resampled = soxr.resample(loud, sample_rate, SAMPLE_RATE)
    kind = "mpeg" if "MP3" in soundfile.available_formats() else "flac"
    data = io.BytesIO()
    soundfile.write(data, resampled, SAMPLE_RATE, format="MP3" if kind == "mpeg" else "FLAC")
    return f"data:audio/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
