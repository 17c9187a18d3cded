"""Token statistics: known values, and chance levels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ossicle.token_cards.clip_tokens import ClipTokens
from ossicle.token_cards.clips import DrawnClips
from ossicle.token_cards.contents import entropy, measure_contents, purity

MakeTokens = Callable[..., ClipTokens]
MakeClips = Callable[..., DrawnClips]
PATCHES, BANDS = 12, 2


def test_entropy_is_in_bits() -> None:
    assert entropy(np.array([0, 1, 2, 3])) == pytest.approx(2.0)
    assert entropy(np.array([5, 5, 5])) == 0.0


def test_purity_counts_the_most_frequent_class_of_each_code() -> None:
    assert purity(np.array([0, 0, 1, 1, 1]), np.array([7, 7, 7, 2, 2])) == pytest.approx(4 / 5)


def test_tokens_that_encode_the_position(tokens: MakeTokens, drawn: MakeClips) -> None:
    found = measure_contents(tokens([np.arange(PATCHES)] * 20), drawn([0, 1] * 10), seed=0).streams[0]
    assert found.statistics.position_information == pytest.approx(1.0)
    assert found.column_entropy == pytest.approx([1.0] * (PATCHES // BANDS))  # two bands, two tokens
    assert found.band_entropy == pytest.approx([np.log2(PATCHES // BANDS)] * BANDS)
    assert found.class_share is not None
    assert found.class_share.value == pytest.approx(0.0, abs=1e-9)


def test_tokens_that_encode_the_class_are_pure_and_chance_is_not(tokens: MakeTokens, drawn: MakeClips) -> None:
    classes = [clip % 4 for clip in range(40)]
    found = measure_contents(tokens([[one] * PATCHES for one in classes]), drawn(classes), seed=0).streams[0]
    assert found.class_share is not None
    assert found.purity is not None
    assert (found.class_share.value, found.purity.value) == pytest.approx((1.0, 1.0))
    assert found.class_share.chance < 0.3
    assert found.purity.chance < 0.6
    assert found.commonest == pytest.approx(0.25)


def test_batches_use_fewer_codes_than_the_corpus(tokens: MakeTokens, drawn: MakeClips) -> None:
    clips = 192  # a second each: three batches of 64
    found = measure_contents(
        tokens([[clip // 64] * PATCHES for clip in range(clips)]), drawn([0, 1] * 96), seed=0
    ).streams[0]
    assert found.statistics.perplexity == pytest.approx(3.0)
    assert (found.batch_used, found.batch_perplexity) == pytest.approx((1.0, 1.0))


def test_streams_are_measured_separately_and_averaged(tokens: MakeTokens, drawn: MakeClips) -> None:
    one, four = np.zeros(PATCHES), np.arange(PATCHES) % 4
    both = measure_contents(tokens([np.stack([one, four], 1)] * 10), drawn([0, 1] * 5), seed=0)
    assert [stream.statistics.perplexity for stream in both.streams] == pytest.approx([1.0, 4.0])
    assert both.mean(lambda stream: stream.statistics.perplexity) == pytest.approx(2.5)
    assert both.tokens == 10 * PATCHES


def test_columns_that_few_clips_reach_are_left_out(tokens: MakeTokens, drawn: MakeClips) -> None:
    ids = [np.arange(4)] * 6 + [np.arange(40)] * 2
    assert len(measure_contents(tokens(ids), drawn([0, 1] * 4), seed=0).streams[0].column_entropy) == 2


@pytest.mark.parametrize(("classes", "multi_label"), [([0] * 8, False), ([0, 1] * 4, True)])
def test_class_statistics_need_several_classes_and_one_per_clip(
    tokens: MakeTokens, drawn: MakeClips, classes: list[int], multi_label: bool
) -> None:
    found = measure_contents(tokens([np.arange(PATCHES)] * 8), drawn(classes, multi_label=multi_label), seed=0)
    assert found.streams[0].purity is None
    assert found.mean(lambda stream: stream.purity.value if stream.purity else None) is None
