"""Share of tokens kept, and its chance levels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ossicle.token_cards.agreement import agreement
from ossicle.token_cards.clip_tokens import ClipTokens
from ossicle.token_cards.perturbations import PERTURBATIONS
from ossicle.token_cards.stability import agreement_by_chance, compare

MakeTokens = Callable[..., ClipTokens]
NOISE = PERTURBATIONS[0]


def tokens(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    lengths = draw(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    clip = st.integers(0, 3)
    return tuple([[draw(clip) for _ in range(length)] for length in lengths] for _ in range(2))  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(st.composite(tokens)())
def test_chance_at_a_position_is_how_often_other_clips_agree(both: tuple[list[list[int]], list[list[int]]]) -> None:
    before, after = both
    positions = np.concatenate([np.arange(len(clip)) for clip in before])
    shares, weights = [], []
    for position in range(max(map(len, before))):
        here = [clip for clip in range(len(before)) if len(before[clip]) > position]
        pairs = [(one, other) for one in here for other in here if one != other]
        if pairs:
            shares.append(np.mean([before[one][position] == after[other][position] for one, other in pairs]))
            weights.append(len(here))
    expected = np.average(shares, weights=weights) if shares else 0.0
    found = agreement_by_chance(np.concatenate(before), np.concatenate(after), positions, others_only=True)
    assert found == pytest.approx(expected)


def test_chance_from_frequencies_is_the_product_of_the_shares() -> None:
    before, after = np.array([0, 0, 0, 1]), np.array([0, 1, 1, 2])
    found = agreement_by_chance(before, after, np.zeros(4, dtype=np.int64), others_only=False)
    assert found == pytest.approx(0.75 * 0.25 + 0.25 * 0.5)


def test_unchanged_tokens_are_all_kept(tokens: MakeTokens) -> None:
    ids = np.random.default_rng(0).integers(0, 50, (30, 12))
    found = compare(tokens(ids), tokens(ids), NOISE, seed=0)
    assert (found.kept, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.by_band == [1.0, 1.0]
    assert found.kappa == pytest.approx(1.0)
    assert found.chance < 0.05


def test_tokens_that_encode_the_position_are_always_kept_and_have_no_kappa(tokens: MakeTokens) -> None:
    ids = [np.arange(12)] * 30
    found = compare(tokens(ids), tokens(ids), NOISE, seed=0)
    assert found.kept == found.chance_at_position == 1.0
    assert found.kappa is None
    assert found.chance == pytest.approx(1 / 12)


def test_unrelated_tokens_are_kept_as_often_as_by_chance(tokens: MakeTokens) -> None:
    random = np.random.default_rng(0)
    before, after = random.integers(0, 4, (2, 200, 20))
    found = compare(tokens(before), tokens(after), NOISE, seed=0)
    assert found.kept == pytest.approx(0.25, abs=0.02)
    assert found.low < 0.25 < found.high
    assert found.chance == pytest.approx(0.25, abs=0.01)
    assert found.chance_at_position == pytest.approx(0.25, abs=0.01)
    assert found.kappa == pytest.approx(0.0, abs=0.03)


def test_a_lost_stream_halves_the_share_and_bands_are_separate(tokens: MakeTokens) -> None:
    random = np.random.default_rng(0)
    before = random.integers(0, 30, (40, 12, 2))
    after = before.copy()
    after[:, :, 1] += 1
    after[:, 1::2] += 1
    found = compare(tokens(before), tokens(after), NOISE, seed=0)
    assert found.kept == pytest.approx(0.25)
    assert found.by_band == pytest.approx([0.5, 0.0])


def test_tokenizers_agree_with_their_permutations_and_not_with_others(tokens: MakeTokens) -> None:
    random = np.random.default_rng(0)
    ids, others = random.integers(0, 20, (2, 50, 12))
    found = agreement([tokens(ids), tokens((ids * 7 + 3) % 20), tokens(others), tokens(ids[:, :10])])
    assert found[0][1] == found[1][0] == pytest.approx(1.0)
    assert found[0][2] == pytest.approx(0.0, abs=0.01)
    assert found[0][3] is None
    assert [found[number][number] for number in range(4)] == [1.0] * 4
