"""How many tokens keep their id when a recording is changed in ways that do not change its content.

Notable choices:

- The share of stable tokens is reported next to two chance levels. One follows from token frequencies. The other, which
  is harder to beat, is the share of tokens that agree with *another* clip's token at the same position, because tokens
  that only encode position are always stable. Cohen's kappa is what exceeds the second.
- Intervals come from a bootstrap over clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from .clip_tokens import ClipTokens, Ids, tokenize
from .clips import DrawnClips, Wave
from .perturbations import PERTURBATIONS, Perturbation
from .sources import Subject

CLIPS = 100
RESAMPLES = 1000


@dataclass(frozen=True)
class Stability:
    """The stability of a tokenizer under one perturbation. Shares in [0, 1], the mean over its streams.

    Attributes:
        family, strength, unit: the perturbation
        kept: share of the tokens that keep their id
        low, high: 95 % bootstrap interval over clips
        chance: share that would agree if tokens were drawn by their frequencies
        chance_at_position: share that agrees with the changed token of another clip at the same position
        by_band: share kept in each frequency band
    """

    family: str
    strength: float
    unit: str
    kept: float
    low: float
    high: float
    chance: float
    chance_at_position: float
    by_band: list[float]

    @property
    def kappa(self) -> float | None:
        """Share of tokens kept beyond chance at their position (Cohen, 1960); None if chance keeps all of them."""
        beyond = 1 - self.chance_at_position
        return (self.kept - self.chance_at_position) / beyond if beyond > 1e-9 else None


def stability(
    subjects: Sequence[Subject],
    unchanged: Sequence[ClipTokens],
    clips: DrawnClips,
    *,
    seed: int,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
    on_step: Callable[[str], None] = lambda name: None,
) -> list[list[Stability]]:
    """Try every perturbation on the first `CLIPS` clips. All tokenizers get the same changed clips.

    Args:
        unchanged: the tokens of each tokenizer for the unchanged clips

    Returns:
        For each tokenizer its stability under every perturbation that its sample rate allows.
    """
    found: list[list[Stability]] = [[] for _ in subjects]
    for number, perturbation in enumerate(perturbations):
        on_step(f"{perturbation.family}, {perturbation.name}")
        for rate, waves in clips.waves.items():
            if rate <= perturbation.highest_rate:
                continue
            changed = _changed(perturbation, waves[:CLIPS], rate, (seed, number))
            for index, subject in enumerate(subjects):
                if subject.part.front_end.sample_rate == rate:
                    clean = unchanged[index].first(CLIPS)
                    after = tokenize(subject, changed)
                    found[index].append(compare(clean, after, perturbation, seed=seed))
    return found


def _changed(perturbation: Perturbation, waves: Sequence[Wave], rate: int, seed: tuple[int, int]) -> list[Wave]:
    """Change every clip, with random numbers that do not depend on the other clips."""
    return [perturbation(wave, rate, np.random.default_rng((*seed, clip))) for clip, wave in enumerate(waves)]


def compare(clean: ClipTokens, changed: ClipTokens, perturbation: Perturbation, *, seed: int) -> Stability:
    """Compare the tokens of the same clips before and after a change."""
    positions, bands = clean.positions, clean.positions % clean.bands
    streams = range(clean.streams)
    before, after = ([tokens.joined(stream) for stream in streams] for tokens in (clean, changed))
    same = np.mean([old == new for old, new in zip(before, after, strict=True)], axis=0)  # (tokens,)
    everywhere = np.zeros_like(positions)
    low, high = _interval(np.bincount(clean.clips, same).astype(np.float64), clean.lengths, seed)
    return Stability(
        family=perturbation.family,
        strength=perturbation.strength,
        unit=perturbation.unit,
        kept=float(same.mean()),
        low=low,
        high=high,
        chance=_mean(before, after, lambda old, new: agreement_by_chance(old, new, everywhere, others_only=False)),
        chance_at_position=_mean(
            before, after, lambda old, new: agreement_by_chance(old, new, positions, others_only=True)
        ),
        by_band=(np.bincount(bands, same) / np.bincount(bands)).tolist(),
    )


def _mean(before: Sequence[Ids], after: Sequence[Ids], figure: Callable[[Ids, Ids], float]) -> float:
    return float(np.mean([figure(old, new) for old, new in zip(before, after, strict=True)]))


def agreement_by_chance(before: Ids, after: Ids, positions: Ids, *, others_only: bool) -> float:
    """Compute how often a token before and a token after the change agree by chance, if drawn at the same position.

    The mean over positions is weighted by their tokens.

    Args:
        before, after, positions: (tokens,)
        others_only: whether to pair tokens only across clips; each clip has one token at a position
    """
    size = int(max(before.max(), after.max())) + 1
    old, old_counts = np.unique(positions * size + before, return_counts=True)
    new, new_counts = np.unique(positions * size + after, return_counts=True)
    both, in_old, in_new = np.intersect1d(old, new, assume_unique=True, return_indices=True)
    agreeing = np.bincount(both // size, old_counts[in_old] * new_counts[in_new], minlength=positions.max() + 1)
    tokens = np.bincount(positions)
    pairs = tokens.astype(np.float64) ** 2
    if others_only:
        agreeing = agreeing - np.bincount(positions, before == after)
        pairs = pairs - tokens
    filled = pairs > 0
    if not filled.any():
        return 0.0
    return float(np.average(agreeing[filled] / pairs[filled], weights=tokens[filled]))


def _interval(kept: npt.NDArray[np.float64], tokens: Ids, seed: int) -> tuple[float, float]:
    """Compute the bootstrap interval over clips of the share of tokens that are kept."""
    if len(tokens) < 2:
        return float("nan"), float("nan")

    def share(kept: npt.NDArray[np.float64], tokens: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = kept.sum(axis) / tokens.sum(axis)
        return found

    found = bootstrap(
        (kept, tokens.astype(np.float64)),
        share,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
