"""Token statistics: codes in use, variation over the grid, and information about class and position.

Notable choices:

- If a tokenizer gives a patch several tokens, each stream is measured separately. Summaries use the mean over streams.
- Values that are above zero by chance are reported next to their mean with the classes shuffled over the clips.
- Purity and the share of the class's information (PNMI) are the measures of HuBERT (Hsu et al., 2021), with the classes
  of clips instead of phones.
- Entropies leave out time columns that fewer than half of the clips reach, because a small number of tokens lowers the
  estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import homogeneity_score

from ..core.manifest import Manifest
from ..tasks.stages.token_statistics import TokenStatistics, token_statistics
from .clip_tokens import BATCH_SECONDS, ClipTokens, Ids
from .clips import DrawnClips

SHUFFLES = 5
RANKS = 1024


@dataclass(frozen=True)
class Figure:
    """A value and its chance level.

    Attributes:
        value: the measured value
        chance: the mean with the classes shuffled over the clips
    """

    value: float
    chance: float


@dataclass(frozen=True)
class StreamFigures:
    """Statistics of one stream of tokens. Shares of information are in [0, 1], entropies in bits.

    Attributes:
        statistics: codes used, perplexity, and the information of a token about class and position
        batch_used, batch_perplexity: codes used and perplexity within batches of clips, on average
        commonest: share of the most frequent code in the tokens
        shares: share of each code that occurs, most frequent first, at most `RANKS` codes
        column_entropy: entropy of the tokens in each time column
        band_entropy: entropy of the tokens in each frequency band
        class_share: share of the entropy of the class that a token explains (PNMI); None without classes
        purity: share of tokens with the most frequent class of their code; None without classes
    """

    statistics: TokenStatistics
    batch_used: float
    batch_perplexity: float
    commonest: float
    shares: list[float]
    column_entropy: list[float]
    band_entropy: list[float]
    class_share: Figure | None
    purity: Figure | None


@dataclass(frozen=True)
class Contents:
    """Statistics of the tokens of one tokenizer.

    Attributes:
        tokens: number of tokens
        streams: statistics of each stream
    """

    tokens: int
    streams: list[StreamFigures]

    def mean(self, figure: Callable[[StreamFigures], float | None]) -> float | None:
        """Average a value over the streams; None if no stream has it."""
        values = [value for stream in self.streams if (value := figure(stream)) is not None]
        return float(np.mean(values)) if values else None


def measure_contents(tokens: ClipTokens, clips: DrawnClips, *, seed: int) -> Contents:
    """Compute the token statistics of drawn clips."""
    return Contents(
        tokens=int(tokens.lengths.sum()),
        streams=[_stream(tokens, number, clips, seed) for number in range(tokens.streams)],
    )


def _stream(tokens: ClipTokens, number: int, clips: DrawnClips, seed: int) -> StreamFigures:
    ids, positions = tokens.joined(number), tokens.positions
    counts = np.bincount(ids)
    shares = np.sort(counts[counts > 0] / counts.sum())[::-1]
    batches = [np.concatenate(batch) for batch in _batches(tokens.stream(number), clips)]
    manifest = clips.manifest
    columns = _well_filled(tokens)
    class_share, purity = _of_class(tokens, ids, clips.classes, seed)
    return StreamFigures(
        statistics=_statistics(tokens.stream(number), manifest, tokens, seed),
        batch_used=float(np.mean([len(np.unique(batch)) for batch in batches])),
        batch_perplexity=float(np.mean([2 ** entropy(batch) for batch in batches])),
        commonest=float(shares[0]),
        shares=shares[:RANKS].tolist(),
        column_entropy=[entropy(ids[positions // tokens.bands == column]) for column in range(columns)],
        band_entropy=[entropy(ids[positions % tokens.bands == band]) for band in range(tokens.bands)],
        class_share=class_share,
        purity=purity,
    )


def _statistics(stream: list[Ids], manifest: Manifest, tokens: ClipTokens, seed: int) -> TokenStatistics:
    return token_statistics(stream, manifest, bands=tokens.bands, codebook_size=tokens.codebook_size, seed=seed)


def entropy(ids: Ids) -> float:
    """Compute the entropy of the tokens in bits."""
    counts = np.bincount(ids)
    share = counts[counts > 0] / max(len(ids), 1)
    return max(0.0, -float((share * np.log2(share)).sum()))


def _batches(tokens: Sequence[Ids], clips: DrawnClips) -> Iterator[list[Ids]]:
    """Group the tokens of successive clips into batches of about `BATCH_SECONDS`."""
    rate, waves = next(iter(clips.waves.items()))
    seconds = np.array([len(wave) for wave in waves]) / rate
    starts = np.cumsum(seconds) - seconds
    batch = np.minimum(starts // BATCH_SECONDS, max(1, seconds.sum() // BATCH_SECONDS) - 1)
    for number in np.unique(batch):
        yield [tokens[clip] for clip in np.flatnonzero(batch == number).tolist()]


def _well_filled(tokens: ClipTokens) -> int:
    """Count the time columns that at least half of the clips reach."""
    return math.ceil(float(np.median(tokens.lengths)) / tokens.bands)


def _of_class(
    tokens: ClipTokens, ids: Ids, classes: Ids | None, seed: int
) -> tuple[Figure, Figure] | tuple[None, None]:
    if classes is None:
        return None, None
    generator = np.random.default_rng(seed)
    shuffled = [classes] + [generator.permutation(classes) for _ in range(SHUFFLES)]
    of_tokens = [np.repeat(one, tokens.lengths) for one in shuffled]
    information = [float(homogeneity_score(one, ids)) for one in of_tokens]
    pure = [purity(one, ids) for one in of_tokens]
    return tuple(Figure(found[0], float(np.mean(found[1:]))) for found in (information, pure))  # type: ignore[return-value]


def purity(classes: Ids, ids: Ids) -> float:
    """Compute the share of tokens with the most frequent class of their code."""
    table: npt.NDArray[Any] = np.zeros((ids.max() + 1, classes.max() + 1), dtype=np.int64)
    np.add.at(table, (ids, classes), 1)
    return float(table.max(1).sum() / len(ids))
