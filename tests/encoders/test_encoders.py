"""Properties of every encoder: padding changes nothing, and visible patches keep their positions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ossicle.core.data import Grid, PatchBatch, VisiblePatches
from ossicle.core.errors import PluginError
from ossicle.core.interfaces import Encoder
from ossicle.encoders.beats import Beats
from ossicle.encoders.dropout import Dropout
from ossicle.encoders.encoder_config import BeatsConfig, PlainVitConfig
from ossicle.encoders.layers import SelfAttention
from ossicle.encoders.scatter import gather
from ossicle.encoders.vit import PlainVit, sine_cosine

PATCH_DIM, BANDS = 12, 4
SMALL = {"size": "tiny", "layers": 2, "width": 32, "heads": 4, "feed_forward": 64}


def beats(**options: object) -> Beats:
    torch.manual_seed(0)
    config = BeatsConfig(**{**SMALL, "conv_position_kernel": 12, "conv_position_groups": 4, **options})
    encoder = Beats(config, PATCH_DIM, BANDS).eval()
    with torch.no_grad():
        if encoder.stack.bias is not None:
            encoder.stack.bias.table.normal_()
    return encoder


def vit(**options: object) -> PlainVit:
    torch.manual_seed(0)
    return PlainVit(PlainVitConfig(**{**SMALL, **options}), PATCH_DIM).eval()


ENCODERS = {
    "beats": beats,
    "pre-norm": lambda: beats(norm="pre", deep_norm=False),
    "ungated": lambda: beats(gated=False),
    "no bias": lambda: beats(gated=False, relative_bias=False),
    "vit": vit,
}
every_encoder = pytest.mark.parametrize("build", ENCODERS.values(), ids=ENCODERS.keys())


def clips(*columns: int) -> PatchBatch:
    """Draw random clips. Their padding is random too, so that it shows if padding has an effect."""
    torch.manual_seed(1)
    grid = Grid(max(columns), BANDS)
    valid = torch.arange(grid.patches) < torch.tensor(columns)[:, None] * BANDS
    return PatchBatch(torch.randn(len(columns), grid.patches, PATCH_DIM), valid, grid)


def first_clip(batch: PatchBatch) -> PatchBatch:
    count = int(batch.valid[0].sum())
    return PatchBatch(batch.patches[:1, :count], batch.valid[:1, :count], Grid(count // BANDS, BANDS))


def all_visible(batch: PatchBatch) -> VisiblePatches:
    index = torch.arange(batch.grid.patches).repeat(batch.patches.shape[0], 1)
    return VisiblePatches(index * batch.valid, batch.valid)


def some_visible() -> VisiblePatches:
    """Make five patches visible in the first of two clips, and seven in the second."""
    index = torch.tensor([[1, 2, 6, 9, 11, 0, 0], [0, 3, 4, 11, 15, 20, 23]])
    return VisiblePatches(index, torch.arange(7) < torch.tensor([[5], [7]]))


@torch.no_grad()
def sequence(encoder: Encoder, batch: PatchBatch, visible: VisiblePatches | None = None) -> Tensor:
    return encoder(batch, visible=visible).sequence


@every_encoder
def test_a_clip_has_the_same_output_in_a_padded_batch(build):
    encoder, batch = build(), clips(3, 6)
    single, together = sequence(encoder, first_clip(batch)), sequence(encoder, batch)
    torch.testing.assert_close(together[:1, : single.shape[1]], single, atol=1e-5, rtol=0)


@every_encoder
def test_visible_patches_have_the_same_output_in_a_padded_batch(build):
    encoder, batch, visible = build(), clips(3, 6), some_visible()
    single = sequence(encoder, first_clip(batch), VisiblePatches(visible.index[:1, :5], visible.valid[:1, :5]))
    together = sequence(encoder, batch, visible)
    torch.testing.assert_close(together[:1, :5], single, atol=1e-5, rtol=0)


@every_encoder
def test_stating_that_all_patches_are_visible_changes_nothing(build):
    encoder, batch = build(), clips(3, 6)
    all_of_them, plain = sequence(encoder, batch, all_visible(batch)), sequence(encoder, batch)
    torch.testing.assert_close(all_of_them[batch.valid], plain[batch.valid], atol=1e-5, rtol=0)


@every_encoder
def test_hidden_patches_have_no_effect(build):
    encoder, batch, visible = build(), clips(6, 6), some_visible()
    before = sequence(encoder, batch, visible)
    hidden = torch.ones_like(batch.valid).scatter(1, visible.index, False)
    batch.patches[hidden] = 100.0
    torch.testing.assert_close(sequence(encoder, batch, visible), before)


@every_encoder
def test_the_order_of_visible_patches_does_not_matter(build):
    encoder, batch, visible = build(), clips(6, 6), some_visible()
    order = torch.randperm(7)
    shuffled = VisiblePatches(visible.index[:, order], visible.valid[:, order])
    expected = sequence(encoder, batch, visible)[:, order]
    given = sequence(encoder, batch, shuffled)
    torch.testing.assert_close(given[shuffled.valid], expected[shuffled.valid], atol=1e-5, rtol=0)


@every_encoder
def test_a_clip_of_only_padding_gives_finite_numbers(build):
    encoder, batch = build(), clips(2, 0)
    encoded = encoder.train()(batch)
    encoded.sequence[encoded.valid].sum().backward()
    assert encoded.sequence.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


@every_encoder
def test_layers_are_returned_on_request(build):
    encoder, batch = build(), clips(3)
    assert encoder(batch).layers == []
    encoded = encoder(batch, layers=True)
    assert [layer.shape for layer in encoded.layers] == [encoded.sequence.shape] * 3
    assert encoded.sequence.shape == (1, 12, encoder.width)


def test_hiding_patches_does_not_move_the_others():
    batch, visible = clips(6, 6), some_visible()
    squeezed = sequence(beats(positions="squeezed"), batch, visible)
    assert (sequence(beats(), batch, visible) - squeezed).abs().max() > 0.01
    compact = PatchBatch(batch.patches[1:, visible.index[1]], torch.ones(1, 7, dtype=torch.bool), Grid(7, BANDS))
    torch.testing.assert_close(sequence(beats(), compact), squeezed[1:], atol=1e-5, rtol=0)


def test_training_works_after_inference_mode():
    encoder, batch = beats().train(), clips(3, 6)
    with torch.inference_mode():
        encoder(batch, visible=some_visible())
        encoder(batch)
    encoder(batch, visible=some_visible()).sequence.sum().backward()


def test_a_training_step_is_reproducible_and_reaches_every_parameter():
    encoder, batch = beats(layer_drop=0.5).train(), clips(3, 6)
    outputs = []
    for _ in range(2):
        torch.manual_seed(5)
        outputs.append(encoder(batch, visible=some_visible()).sequence)
    assert torch.equal(*outputs)
    outputs[0].sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_another_number_of_bands_is_refused():
    batch = PatchBatch(torch.zeros(1, 6, PATCH_DIM), torch.ones(1, 6, dtype=torch.bool), Grid(2, 3))
    with pytest.raises(PluginError, match="built for 4 bands, but the patches have 3"):
        beats()(batch)


def test_sine_cosine_positions_differ():
    positions = sine_cosine(Grid(20, 8), 32)
    assert positions.shape == (160, 32)
    assert torch.cdist(positions, positions).fill_diagonal_(1.0).min() > 0.05


@pytest.mark.slow
def test_the_sums_of_the_convolution_have_the_same_mean_with_hidden_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise vectors would be far larger in use than in training."""
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda sums: sums)
    encoder = beats(conv_position_kernel=96)
    with torch.no_grad():
        encoder.conv_position.bias.zero_()
    batch, generator = clips(40), torch.Generator().manual_seed(0)
    vectors = torch.ones(1, batch.grid.patches, encoder.width)
    whole = encoder.conv_position(vectors).mean(1)
    sums = []
    for _ in range(300):
        index = torch.randperm(batch.grid.patches, generator=generator)[: batch.grid.patches // 4].sort().values[None]
        seen = torch.ones_like(index, dtype=torch.bool)
        sums.append(encoder._conv_position(gather(vectors, index), seen, index, batch).mean(1))
    mean = torch.stack(sums).mean(0)
    assert (mean - whole).norm() < 0.2 * whole.norm()


@every_encoder
@torch.no_grad()
def test_bf16_keeps_each_clips_direction(build: Callable[[], Encoder]) -> None:
    encoder, batch = build(), clips(9, 30, 17)
    exact = encoder(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(batch)
    means = [
        torch.where(found.valid[..., None], found.sequence.float(), 0.0).sum(1) / found.valid.sum(1, keepdim=True)
        for found in (exact, rough)
    ]
    assert torch.cosine_similarity(*means).min() >= 0.999


@every_encoder
def test_bf16_gives_about_the_same_gradients(build: Callable[[], Encoder]) -> None:
    encoder, batch = build().train(), clips(9, 12)
    for module in encoder.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
        elif isinstance(module, SelfAttention):
            module.dropout = 0.0
    found = []
    for half in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = encoder(batch).sequence[batch.valid]
        out.float().square().mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
    assert torch.cosine_similarity(*found, dim=0) > 0.99
