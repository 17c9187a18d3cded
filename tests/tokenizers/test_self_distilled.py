"""The self-distilled tokenizer: gradients, precision, its start, and evaluation without changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.data import Grid, PatchBatch
from ossicle.core.interfaces import Tokenizer
from ossicle.core.plugin_loading import load_plugins
from ossicle.tokenizers.self_distilled import SelfDistilled

PATCH_DIM, BANDS = 12, 4
ENCODER = {
    "layers": 1, "width": 32, "heads": 2, "feed_forward": 32, "patch_width": 16, "conv_position_kernel": 8,
    "conv_position_groups": 4, "dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, "layer_drop": 0.0,
}  # fmt: skip


def tokenizer(**options: Any) -> SelfDistilled:
    catalog = load_plugins().catalog
    encoder = PartChoice.of(catalog.get("encoder", "beats"), ENCODER)
    config = {"codebook_size": 16, "codebook_dim": 6, "kmeans_vectors": 4, **options}
    choice = PartChoice.of(catalog.get("tokenizer", "self_distilled"), config, catalog=catalog)
    made = build(choice, Tokenizer, seed=3, patch_dim=PATCH_DIM, bands=BANDS, encoder_choice=encoder)  # type: ignore[type-abstract]
    assert isinstance(made, SelfDistilled)
    return made


def clips(*columns: int, seed: int = 0) -> PatchBatch:
    grid = Grid(max(columns), BANDS)
    patches = torch.randn(len(columns), grid.patches, PATCH_DIM, generator=torch.Generator().manual_seed(seed))
    return PatchBatch(patches, torch.arange(grid.patches) < torch.tensor(columns)[:, None] * BANDS, grid)


def state(made: SelfDistilled) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.state_dict().items()}


def test_evaluation_changes_nothing() -> None:
    made = tokenizer().eval()
    before = state(made)
    made.tokenize(clips(3, 5))
    made.quantise(clips(3, 5))
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())


def test_only_real_patches_update_the_codebook() -> None:
    batch = clips(3, 5)
    moved = []
    for noise in (0.0, 9.0):
        made = tokenizer(decay=0.5).train()
        padded = PatchBatch(batch.patches + noise * ~batch.valid[..., None], batch.valid, batch.grid)
        made.quantise(padded)
        moved.append(made.codebook.codes)
    assert not torch.equal(moved[0], tokenizer().codebook.codes)
    torch.testing.assert_close(moved[0], moved[1], atol=1e-5, rtol=0)


def test_gradients_pass_straight_through_to_the_encoder() -> None:
    made = tokenizer().train()
    batch = clips(4)
    weight = torch.randn(1, batch.grid.patches, 6)
    (made.quantise(batch).vectors * weight).sum().backward()
    through_codes = made.project[2].weight.grad.clone()
    made.zero_grad()
    (made.encode(batch) * weight).sum().backward()
    torch.testing.assert_close(through_codes, made.project[2].weight.grad)
    assert not any(parameter is buffer for parameter in made.parameters() for buffer in made.codebook.buffers())


def test_the_codebook_is_fp32_at_any_precision_of_the_encoder() -> None:
    made = tokenizer().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantised = made.quantise(clips(4))
    assert made.codebook.codes.dtype == torch.float32
    assert quantised.vectors.dtype == torch.float32
    norms = made.codebook.codes.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_start_uses_only_as_many_batches_as_it_needs() -> None:
    made = tokenizer().eval()
    before = made.codebook.codes.clone()
    taken = []

    def batches() -> Any:
        for seed in range(50):
            taken.append(seed)
            yield clips(4, 4, seed=seed)

    made.start(batches())
    assert len(taken) == 2, "64 vectors for 16 codes come from two batches of 32"
    assert not torch.equal(made.codebook.codes, before)
    assert len(made.tokenize(clips(4, 4)).ids.unique()) > 4


def test_a_clip_has_the_same_tokens_alone_and_in_a_batch() -> None:
    made = tokenizer().eval()
    made.start([clips(8, 8, 8, 8)])
    batch = clips(3, 6)
    single = PatchBatch(batch.patches[:1, : 3 * BANDS], batch.valid[:1, : 3 * BANDS], Grid(3, BANDS))
    assert torch.equal(made(single)[0], made(batch)[0, : 3 * BANDS])


def test_its_encoder_has_other_initial_weights_than_the_encoder_of_the_experiment() -> None:
    catalog = load_plugins().catalog
    encoder = PartChoice.of(catalog.get("encoder", "beats"), ENCODER)
    learner = build(encoder, torch.nn.Module, seed=3, patch_dim=PATCH_DIM, bands=BANDS)
    assert not torch.equal(learner.stem.embed.weight, tokenizer().encoder.stem.embed.weight)


def test_a_configured_encoder() -> None:
    made = tokenizer(encoder={"type": "plain_vit", "layers": 2, "width": 16, "heads": 2, "feed_forward": 16})
    assert made.encoder.width == 16
    assert made.tokenize(clips(3)).ids.shape == (1, 12)


def test_the_seed_decides_all_weights() -> None:
    first, again = state(tokenizer()), state(tokenizer())
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("field", ["codebook_size", "codebook_dim"])
def test_sizes_below_the_minimum_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        tokenizer(**{field: 0})
