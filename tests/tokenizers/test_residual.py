"""Residual quantisation compared with a slow second implementation and with a single codebook."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from ossicle.tokenizers.codebook import EmaCodebook
from ossicle.tokenizers.residual import ResidualCodebooks


def unit(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def started(streams: int, size: int, dim: int, samples: Tensor, **options: float) -> ResidualCodebooks:
    torch.manual_seed(0)
    made = ResidualCodebooks(streams, size, dim, **options)
    made.start(samples)
    return made


@settings(max_examples=20, deadline=None)
@given(streams=st.integers(1, 4), size=st.integers(2, 9), dim=st.integers(2, 5), seed=st.integers(0, 999))
def test_codes_equal_a_slow_second_implementation(streams: int, size: int, dim: int, seed: int) -> None:
    made, vectors = started(streams, size, dim, unit(60, dim, seed=seed)), unit(2, 7, dim, seed=seed + 1)
    codebooks = [codebook.codes.double().numpy() for codebook in made.codebooks]
    found = made(vectors)
    for index in np.ndindex(2, 7):
        vector = vectors[index].double().numpy()
        total, residuals = np.zeros(dim), []
        for stream, codes in enumerate(codebooks):
            distances = ((vector - total - codes) ** 2).sum(1)
            given_code = int(found.ids[*index, stream])
            assert distances[given_code] <= distances.min() + 1e-5
            total = total + codes[given_code]
            residuals.append(((vector - total) ** 2).mean())
        np.testing.assert_allclose(found.vectors[index].numpy(), total, atol=1e-5)
        np.testing.assert_allclose(float(found.commitment[index]), np.mean(residuals), atol=1e-5)


def test_every_further_codebook_reduces_the_error() -> None:
    vectors = unit(2000, 8)
    errors = [float((started(g, 16, 8, vectors)(vectors).vectors - vectors).square().mean()) for g in (1, 2, 3, 4)]
    assert all(later < 0.9 * earlier for earlier, later in pairwise(errors))


def test_the_first_stream_equals_that_of_a_single_codebook() -> None:
    vectors = unit(500, 6)
    torch.manual_seed(0)
    single = EmaCodebook(8, 6, decay=0.5)
    single.start(vectors)
    several = started(3, 8, 6, vectors, decay=0.5)
    several.codebooks[0].load_state_dict(single.state_dict())
    for _ in range(3):
        ids = several.nearest(vectors)
        assert torch.equal(ids[:, 0], single.nearest(vectors))
        several.update(vectors, ids)
        single.update(vectors, ids[:, 0])
    assert torch.equal(several.codebooks[0].codes, single.codes)


def test_codebooks_follow_the_residual() -> None:
    vectors = unit(400, 6)
    made = started(2, 8, 6, vectors, decay=0.0)
    first, second = (codebook.codes.clone() for codebook in made.codebooks)
    ids = made.nearest(vectors)
    made.update(vectors, ids)
    residuals = vectors - first[ids[:, 0]]
    for code in ids[:, 1].unique():
        expected = residuals[ids[:, 1] == code].mean(0)
        torch.testing.assert_close(made.codebooks[1].codes[code], expected, atol=1e-5, rtol=1e-4)
    assert not torch.equal(made.codebooks[1].codes, second)
    norms = made.codebooks[1].codes.norm(dim=1)
    assert not torch.allclose(norms, torch.ones_like(norms)), "residuals are not normalised"


def test_looking_up_codes_changes_nothing_and_gradients_pass_straight_through() -> None:
    made = started(3, 8, 4, unit(100, 4)).train()
    before = [buffer.clone() for buffer in made.buffers()]
    vectors = unit(1, 5, 4, seed=3).requires_grad_()
    weight = torch.randn(1, 5, 4)
    (gradient,) = torch.autograd.grad((made(vectors).vectors * weight).sum(), vectors)
    torch.testing.assert_close(gradient, weight)
    assert all(torch.equal(old, new) for old, new in zip(before, made.buffers(), strict=True))
