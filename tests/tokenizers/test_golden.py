"""The self-distilled tokenizer and its codebook compared with arrays of the released implementation.

`shared/golden/README.md` describes the arrays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.checkpoints.microsoft import read_released
from ossicle.checkpoints.tokenizer_format import build_tokenizer
from ossicle.core.data import AudioBatch, Grid, PatchBatch
from ossicle.core.plugin_loading import load_plugins
from ossicle.tokenizers.clustering import spherical_kmeans
from ossicle.tokenizers.codebook import EmaCodebook
from ossicle.tokenizers.self_distilled import SelfDistilled

CATALOG = load_plugins().catalog
CLEAR = 1e-4
"""Tokens are compared where the two nearest codes are further apart than this."""


@pytest.fixture
def tokenizer(golden: Path) -> SelfDistilled:
    built = build_tokenizer(read_released(golden / "tokenizer.pt"), CATALOG)
    assert isinstance(built, SelfDistilled)
    return built


@pytest.fixture
def arrays(golden: Path) -> dict[str, Tensor]:
    return loaded(golden / "tokenizer.npz")


@pytest.fixture
def quantiser(golden: Path) -> dict[str, Tensor]:
    return loaded(golden / "quantizer_ema.npz")


def loaded(path: Path) -> dict[str, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        values: dict[str, npt.NDArray[np.generic]] = dict(file)
    return {name: torch.from_numpy(np.asarray(value)) for name, value in values.items()}


def released_patches(golden: Path, arrays: dict[str, Tensor], run: str) -> PatchBatch:
    """Compute the patches of the waveforms, with the mask of the released code."""
    settings = read_released(golden / "tokenizer.pt").front_end.model_copy(update={"padding": "released"})
    return KaldiFbank(settings)(AudioBatch(arrays[f"{run}/wave_i16"].float() / 32768, arrays[f"{run}/lengths"]))


def stored_patches(arrays: dict[str, Tensor], run: str, valid: Tensor) -> PatchBatch:
    """Cut the stored filter banks into patches."""
    fbank = arrays[f"{run}/fbank"]
    columns = fbank.shape[1] // 16
    cells = fbank[:, : columns * 16].unflatten(1, (columns, 16)).unflatten(3, (8, 16)).transpose(2, 3)
    return PatchBatch(cells.flatten(3).flatten(1, 2), valid, Grid(columns, 8))


@pytest.mark.parametrize("run", ["full", "padded"])
@pytest.mark.parametrize("source", ["filter banks", "waveform"])
def test_tokens(golden: Path, tokenizer: SelfDistilled, arrays: dict[str, Tensor], run: str, source: str) -> None:
    patches = released_patches(golden, arrays, run)
    if source == "filter banks":
        patches = stored_patches(arrays, run, patches.valid)
    ids = tokenizer.tokenize(patches).ids
    # From the waveform, the filter banks differ by up to 5e-4, and the outputs by as much.
    clear = arrays[f"{run}/token_margin"] > (CLEAR if source == "filter banks" else 10 * CLEAR)
    assert clear.float().mean() > 0.99
    assert torch.equal(ids.flatten()[clear], arrays[f"{run}/tokens"][clear])


@pytest.mark.parametrize("run", ["full", "padded"])
def test_vectors_before_quantisation(
    golden: Path, tokenizer: SelfDistilled, arrays: dict[str, Tensor], run: str
) -> None:
    patches = stored_patches(arrays, run, released_patches(golden, arrays, run).valid)
    with torch.no_grad():
        projected = tokenizer.project(tokenizer.encoder(patches).sequence)
        torch.testing.assert_close(projected, arrays[f"{run}/quantize_input"], atol=1e-4, rtol=1e-4)
        expected = normalize(arrays[f"{run}/quantize_input"], dim=-1)
        torch.testing.assert_close(tokenizer.encode(patches), expected, atol=1e-4, rtol=1e-4)


def test_evaluation_does_not_change_the_code_usage(
    golden: Path, tokenizer: SelfDistilled, arrays: dict[str, Tensor]
) -> None:
    assert torch.equal(tokenizer.codebook.usage, arrays["full/cluster_size_before"])
    tokenizer.tokenize(released_patches(golden, arrays, "full"))
    assert torch.equal(tokenizer.codebook.usage, arrays["full/cluster_size_before"])
    assert not torch.equal(tokenizer.codebook.usage, arrays["full/cluster_size_after"]), (
        "the released code updates its counts"
    )


def test_one_step_of_the_moving_averages(quantiser: dict[str, Tensor]) -> None:
    codebook = EmaCodebook(*quantiser["codebook_before"].shape, decay=float(quantiser["decay"]))
    codebook.codes.copy_(quantiser["codebook_before"])
    codebook.usage.copy_(quantiser["cluster_size_before"])
    z = quantiser["z"].clone().requires_grad_()
    vectors = normalize(z, dim=-1)
    ids = codebook.nearest(vectors)
    codes = codebook.codes[ids]
    straight = vectors + (codes - vectors).detach()
    # The released loss is a mean over all numbers; ours is a sum over the d numbers of a code.
    loss = float(quantiser["beta"]) * (codes - vectors).square().sum(-1).mean() / vectors.shape[-1]
    codebook.update(vectors.detach().flatten(0, 1), ids.flatten())
    (gradient,) = torch.autograd.grad((straight * quantiser["grad_out"]).sum() + loss, z)

    assert torch.equal(ids.flatten(), quantiser["ids"].flatten())
    torch.testing.assert_close(straight, quantiser["z_q"], atol=1e-6, rtol=1e-5)
    assert loss.item() == pytest.approx(float(quantiser["loss"]), rel=1e-5)
    torch.testing.assert_close(gradient, quantiser["grad_z"], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(codebook.codes, quantiser["codebook_after"], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(codebook.usage, quantiser["cluster_size_after"], atol=1e-6, rtol=1e-5)


def test_k_means(quantiser: dict[str, Tensor]) -> None:
    samples = quantiser["kmeans_samples"]
    means, members = spherical_kmeans(samples, samples[:8], rounds=10)
    torch.testing.assert_close(means, quantiser["kmeans_means"], atol=1e-6, rtol=1e-5)
    assert torch.equal(members, quantiser["kmeans_bins"])
