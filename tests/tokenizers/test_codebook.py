"""The codebook of moving averages: compared with a slow second implementation, and when it does not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from ossicle.tokenizers.clustering import spherical_kmeans
from ossicle.tokenizers.codebook import EmaCodebook


def unit(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(2, 12), dim=st.integers(2, 6), count=st.integers(1, 30), decay=st.floats(0, 0.99))
def test_an_update_equals_a_slow_second_implementation(size: int, dim: int, count: int, decay: float) -> None:
    codebook, vectors = EmaCodebook(size, dim, decay=decay), unit(count, dim, seed=count)
    before = codebook.codes.double().numpy().copy()
    ids = codebook.nearest(vectors)
    codebook.update(vectors, ids)
    for code in range(size):
        members = vectors[ids == code].double().numpy()
        expected = before[code]
        if len(members) and np.linalg.norm(members.sum(0)) > 1e-3:
            mean = members.sum(0) / np.linalg.norm(members.sum(0))
            moved = decay * before[code] + (1 - decay) * mean
            expected = moved / np.linalg.norm(moved)
        elif len(members):
            continue
        np.testing.assert_allclose(codebook.codes[code].numpy(), expected, atol=2e-5)
        assert np.isclose(codebook.usage[code].item(), (1 - decay) * len(members), atol=1e-4)


def test_looking_up_codes_changes_nothing() -> None:
    codebook = EmaCodebook(8, 4).train()
    before = [buffer.clone() for buffer in codebook.buffers()]
    codebook.nearest(unit(20, 4))
    assert all(torch.equal(old, new) for old, new in zip(before, codebook.buffers(), strict=True))


def test_unused_codes_are_revived_near_the_vectors_if_configured() -> None:
    codebook = EmaCodebook(16, 3, decay=0.5, revive_below=0.01)
    vectors = normalize(torch.tensor([1.0, 0.0, 0.0]) + 0.05 * unit(200, 3, seed=3), dim=-1)
    for _ in range(10):
        codebook.update(vectors, codebook.nearest(vectors))
    assert (codebook.codes @ torch.tensor([1.0, 0.0, 0.0]) > 0.9).all()
    without_revival = EmaCodebook(16, 3, decay=0.5)
    for _ in range(10):
        without_revival.update(vectors, without_revival.nearest(vectors))
    assert (without_revival.codes @ torch.tensor([1.0, 0.0, 0.0]) < 0.9).any(), "without revival, unused codes stay"


def test_unused_codes_come_back_within_a_short_training():
    """k-means sees 16 vectors per code and a batch 4. Vectors then leave half of the codes."""
    torch.manual_seed(0)
    codebook = EmaCodebook(64, 8, revive_below=0.5, usage_decay=0.9)
    vectors = unit(64 * 16, 8)
    codebook.start(vectors, per_batch=256)
    assert codebook.usage.sum().item() == pytest.approx(256)
    near = vectors[vectors[:, 0] > 0]
    for _ in range(60):
        batch = near[torch.randint(len(near), (256,))]
        codebook.update(batch, codebook.nearest(batch))
    assert len(codebook.nearest(near).unique()) > 60


def test_codes_start_at_the_centres_of_clusters() -> None:
    centres = unit(4, 8, seed=1)
    samples = normalize(centres.repeat_interleave(50, 0) + 0.05 * torch.randn(200, 8), dim=-1)
    codebook = EmaCodebook(4, 8)
    start = samples[[0, 50, 100, 150]]
    found, counts = spherical_kmeans(samples, start, rounds=5)
    assert ((found @ centres.T).max(1).values > 0.99).all()
    assert counts.tolist() == [50, 50, 50, 50]
    codebook.start(samples)
    assert torch.allclose(codebook.codes.norm(dim=1), torch.ones(4), atol=1e-5)


def test_more_codes_than_vectors_are_allowed() -> None:
    codebook = EmaCodebook(32, 4)
    codebook.start(unit(5, 4))
    assert torch.isfinite(codebook.codes).all()
