"""Token statistics: codes in use, where in the grid tokens vary, and their information about class and position.

Notable choices: of a tokenizer that gives a patch several tokens each stream is measured on its own, and the mean over
them stands for it; figures that are above zero by chance stand beside their mean with the classes dealt out to the
clips anew. Purity and the share of the class's information (PNMI) are those by which HuBERT judges units (Hsu et al.,
2021), with the classes of clips for phones. Entropies leave out time columns that fewer than half of the clips reach,
where few tokens would make them seem poorer than they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import homogeneity_score

from ..core.corpus import Manifest
from ..tasks.stages.token_statistics import TokenStatistics, token_statistics
from .clip_tokens import BATCH_SECONDS, ClipTokens, Ids
from .clips import DrawnClips

SHUFFLES = 5
RANKS = 1024


@dataclass(frozen=True)
class Figure:
    """A figure beside what it would be by chance.

    Attributes:
        value: as measured
        chance: its mean with the classes dealt out to the clips anew
    """

    value: float
    chance: float


@dataclass(frozen=True)
class StreamFigures:
    """What the tokens of one stream hold; shares of information in [0, 1], entropies in bits.

    Attributes:
        statistics: codes used, perplexity, and the information of a token about class and position
        batch_used, batch_perplexity: the same within batches of clips, on average
        commonest: share of the tokens that carry the commonest code
        shares: share of the tokens that carry each code that occurs, commonest first, down to `RANKS`
        column_entropy: of the tokens in each time column
        band_entropy: of the tokens in each frequency band
        class_share: share of the class's entropy that a token tells (PNMI); None without classes
        purity: share of tokens whose class is the commonest of their code; None without classes
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
class Holdings:
    """What the tokens of one tokenizer hold.

    Attributes:
        tokens: how many there are
        streams: of each stream of tokens
    """

    tokens: int
    streams: list[StreamFigures]

    def mean(self, figure: Callable[[StreamFigures], float | None]) -> float | None:
        """A figure's mean over the streams; None where there is none."""
        values = [value for stream in self.streams if (value := figure(stream)) is not None]
        return float(np.mean(values)) if values else None


def holdings(tokens: ClipTokens, clips: DrawnClips, *, seed: int) -> Holdings:
    """Measure what the tokens of drawn clips hold."""
    return Holdings(
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
    """How many bits it takes to say which token it is, given how common each is."""
    counts = np.bincount(ids)
    share = counts[counts > 0] / max(len(ids), 1)
    return max(0.0, -float((share * np.log2(share)).sum()))


def _batches(tokens: Sequence[Ids], clips: DrawnClips) -> Iterator[list[Ids]]:
    """The tokens of successive clips, in the drawn order, of about `BATCH_SECONDS` together."""
    rate, waves = next(iter(clips.waves.items()))
    seconds = np.array([len(wave) for wave in waves]) / rate
    starts = np.cumsum(seconds) - seconds
    batch = np.minimum(starts // BATCH_SECONDS, max(1, seconds.sum() // BATCH_SECONDS) - 1)
    for number in np.unique(batch):
        yield [tokens[clip] for clip in np.flatnonzero(batch == number).tolist()]


def _well_filled(tokens: ClipTokens) -> int:
    """How many time columns at least half of the clips reach."""
    return math.ceil(float(np.median(tokens.lengths)) / tokens.bands)


def _of_class(
    tokens: ClipTokens, ids: Ids, classes: Ids | None, seed: int
) -> tuple[Figure, Figure] | tuple[None, None]:
    if classes is None:
        return None, None
    generator = np.random.default_rng(seed)
    dealt = [classes] + [generator.permutation(classes) for _ in range(SHUFFLES)]
    of_tokens = [np.repeat(one, tokens.lengths) for one in dealt]
    information = [float(homogeneity_score(one, ids)) for one in of_tokens]
    pure = [purity(one, ids) for one in of_tokens]
    return tuple(Figure(found[0], float(np.mean(found[1:]))) for found in (information, pure))  # type: ignore[return-value]


def purity(classes: Ids, ids: Ids) -> float:
    """Share of tokens whose class is the commonest among those of their code."""
    table: npt.NDArray[Any] = np.zeros((ids.max() + 1, classes.max() + 1), dtype=np.int64)
    np.add.at(table, (ids, classes), 1)
    return float(table.max(1).sum() / len(ids))
