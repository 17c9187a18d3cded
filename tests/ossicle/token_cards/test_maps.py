"""Maps: similar clips are close together, and the share of nearest neighbours of the same class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ossicle.token_cards.clip_tokens import ClipTokens
from ossicle.token_cards.maps import bags, map_of_embeddings, map_of_tokens

MakeTokens = Callable[..., ClipTokens]


def test_bags_are_unit_vectors_of_codes_in_bands(tokens: MakeTokens) -> None:
    found = bags(tokens([[3, 3, 3, 4], [4, 3, 4, 4]]))
    assert np.square(found).sum(1) == pytest.approx([1.0, 1.0])
    # band 0: codes 3 and 4; band 1: codes 3 and 4
    np.testing.assert_allclose(np.square(found), [[0.5, 0, 0.25, 0.25], [0, 0.5, 0.25, 0.25]])


def test_clips_of_one_class_are_close_together(tokens: MakeTokens) -> None:
    random = np.random.default_rng(0)
    classes = np.repeat([0, 1], 20)
    ids = random.integers(0, 8, (40, 24)) + 8 * classes[:, None]
    found = map_of_tokens(tokens(ids), classes, seed=0)
    assert found is not None
    assert found.neighbours == 1.0
    assert found.chance == pytest.approx(2 * 20 * 19 / (40 * 39))
    assert (found.points.min(), found.points.max()) == (0.0, 1.0)
    centres = [found.points[classes == one].mean(0) for one in (0, 1)]
    spread = max(found.points[classes == one].std() for one in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > spread


def test_the_map_of_embeddings_is_deterministic() -> None:
    embedded = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    one, two = (map_of_embeddings(embedded, None, seed=0) for _ in range(2))
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.points, two.points)
    assert one.neighbours is None


def test_identical_clips_are_one_point(tokens: MakeTokens) -> None:
    found = map_of_tokens(tokens([[1, 2, 1, 2]] * 10), None, seed=0)
    assert found is not None
    assert not found.points.any()


def test_few_clips_and_no_encoder_have_no_map(tokens: MakeTokens) -> None:
    assert map_of_tokens(tokens([[1, 2]] * 7), None, seed=0) is None
    assert map_of_embeddings(None, None, seed=0) is None
