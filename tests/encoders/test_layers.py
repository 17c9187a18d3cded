"""The components of BEATs' layers compared with slow second implementations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ossicle.encoders import layers
from ossicle.encoders.conv_position import correlate_direct, correlate_fourier
from ossicle.encoders.encoder_config import StackConfig
from ossicle.encoders.layers import FeedForward, TransformerStack
from ossicle.encoders.positions import RelativeBias, relative_buckets
from ossicle.encoders.scatter import gather, scatter


def slow_bucket(distance: int, buckets: int, max_distance: int) -> int:
    base, size, exact = (buckets // 2 if distance > 0 else 0), abs(distance), buckets // 4
    if size < exact:
        return base + size
    growth = math.log(size / exact) / math.log(max_distance / exact)
    return base + min(exact + int(growth * exact), buckets // 2 - 1)


@pytest.mark.parametrize(("buckets", "max_distance"), [(320, 800), (32, 80), (8, 13)])
def test_buckets(buckets: int, max_distance: int):
    distances = range(-max_distance - 5, max_distance + 6)
    given = relative_buckets(torch.tensor(distances), buckets=buckets, max_distance=max_distance).tolist()
    assert given == [slow_bucket(d, buckets, max_distance) for d in distances]
    assert set(given) <= set(range(buckets))


def test_bias_of_distances_beyond_the_last_bucket():
    bias = RelativeBias(2, buckets=8, max_distance=5)
    by_position = bias(30, torch.arange(30)[None])[0]
    assert torch.equal(bias(30), by_position)
    bucket = relative_buckets(torch.arange(30) - torch.arange(30)[:, None], buckets=8, max_distance=5)
    assert torch.equal(by_position, bias.table[bucket].permute(2, 0, 1))


@pytest.mark.parametrize("count", [1, 3, 8, 40, 96])
@pytest.mark.parametrize("kernel", [1, 2, 7, 16, 33])
def test_correlation_by_fourier_transforms(count: int, kernel: int):
    torch.manual_seed(0)
    signal = torch.randn(3, 8, count, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 2, kernel, dtype=torch.float64, requires_grad=True)
    direct, fourier = (f(signal, weight, groups=4) for f in (correlate_direct, correlate_fourier))
    torch.testing.assert_close(fourier, direct)
    for given, expected in zip(
        torch.autograd.grad(fourier.square().sum(), (signal, weight)),
        torch.autograd.grad(direct.square().sum(), (signal, weight)),
        strict=True,
    ):
        torch.testing.assert_close(given, expected)


def test_scatter_and_gather():
    positions = torch.tensor([[4, 0, 2]])
    vectors = torch.randn(1, 3, 5)
    full = scatter(vectors, positions, 6)
    assert torch.equal(gather(full, positions), vectors)
    assert (full[:, [1, 3, 5]] == 0).all()


def stack(**options: object) -> TransformerStack:
    torch.manual_seed(0)
    return TransformerStack(StackConfig(**{"layers": 2, "width": 16, "heads": 2, "feed_forward": 32, **options}))


def test_gradient_decay_scales_each_layer():
    plain, decayed = (stack(gradient_decay=ratio).eval() for ratio in (1.0, 0.5))
    sequence, valid = torch.randn(2, 7, 16), torch.ones(2, 7, dtype=torch.bool)
    for module in (plain, decayed):
        module(sequence, valid=valid)[0].square().sum().backward()
    for layer, scale in ((0, 0.5), (1, 1.0)):
        given, expected = (module.layers[layer].feed_forward.expand.weight.grad for module in (decayed, plain))
        torch.testing.assert_close(given, scale * expected)
    torch.testing.assert_close(decayed.norm.weight.grad, 0.25 * plain.norm.weight.grad)


def test_a_dropped_layer_changes_nothing():
    module = stack(layer_drop=0.999, dropout=0.0).train()
    sequence, kept = module(torch.randn(1, 5, 16), valid=torch.ones(1, 5, dtype=torch.bool), layers=True)
    assert torch.equal(sequence, kept[0])


def test_initial_weights_keep_the_variance_at_any_width():
    torch.manual_seed(0)
    for width in (32, 128):
        stack = TransformerStack(
            StackConfig(layers=2, width=width, heads=2, feed_forward=4 * width, norm="pre", deep_norm=False)
        )
        layer = stack.layers[0]
        for linear, factor in (
            (layer.attention.query, 1.0),
            (layer.feed_forward.expand, 1.0),
            (layer.attention.out, 0.5),
            (layer.feed_forward.contract, 0.5),
        ):
            assert linear.weight.std().item() == pytest.approx(factor * linear.in_features**-0.5, rel=0.1)
            assert not linear.bias.any()


def test_deep_norm_initialises_small_branches():
    linear = stack(layers=8, width=256, feed_forward=256).layers[0].attention
    ratio = linear.value.weight.std() / linear.query.weight.std()
    assert ratio.item() == pytest.approx(64**-0.25, rel=0.05)


@pytest.mark.parametrize("activation", ["gelu", "gelu_accurate", "relu", "tanh", "linear", "glu"])
def test_every_activation_runs(activation: str):
    out, _ = stack(activation=activation)(torch.randn(1, 5, 16), valid=torch.ones(1, 5, dtype=torch.bool))
    assert out.shape == (1, 5, 16)


def feed_forward(activation: str, precision: torch.dtype) -> tuple[list[Tensor], set[torch.Size]]:
    """Run a feed-forward network. Returns its output and all gradients, and the sizes of the tensors that it stores."""
    torch.manual_seed(0)
    config = StackConfig(layers=1, width=8, heads=2, feed_forward=24, activation=activation, dropout=0.0)
    module = FeedForward(config)
    vectors = torch.randn(2, 5, 8, requires_grad=True)
    stored: dict[int, torch.Size] = {}

    def store(tensor: Tensor) -> Tensor:
        stored[tensor.data_ptr()] = tensor.shape
        return tensor

    half = precision == torch.bfloat16
    with saved_tensors_hooks(store, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=half):
        out = module(vectors)
    out.square().sum().backward()
    learnt = [vectors, *module.parameters()]
    sizes = [size for address, size in stored.items() if address not in {tensor.data_ptr() for tensor in learnt}]
    return [out.detach(), *(tensor.grad for tensor in learnt if tensor.grad is not None)], set(sizes)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["gelu", "glu", "relu", "tanh"])
def test_activations_computed_again_give_the_same_gradients(
    activation: str, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    ours, _ = feed_forward(activation, precision)
    monkeypatch.setattr(layers, "on_cpu", lambda _: False)
    plain, _ = feed_forward(activation, precision)
    assert len(ours) == 6
    for given, expected in zip(ours, plain, strict=True):
        assert given.dtype == expected.dtype
        torch.testing.assert_close(
            given, expected, **({} if precision == torch.float32 else {"rtol": 0.02, "atol": 0.1})
        )


def test_activations_are_not_stored(monkeypatch: pytest.MonkeyPatch):
    flat, stored = torch.Size([10, 24]), feed_forward("gelu", torch.float32)[1]
    assert torch.Size([2, 5, 24]) in stored
    assert flat not in stored
    monkeypatch.setattr(layers, "on_cpu", lambda _: False)
    assert flat in feed_forward("gelu", torch.float32)[1]


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_last_layer_gives_only_wanted_positions(norm: str):
    module = stack(norm=norm, deep_norm=norm == "post", dropout=0.0).eval()
    sequence, valid = torch.randn(2, 7, 16, requires_grad=True), torch.arange(7) < torch.tensor([[7], [4]])
    wanted = torch.rand(2, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    some, _ = module(sequence, valid=valid, wanted=wanted)
    all_of_them = module(sequence, valid=valid)[0][wanted]
    torch.testing.assert_close(some, all_of_them)
    learnt = [sequence, *module.parameters()]
    for given, expected in zip(
        torch.autograd.grad(some.square().sum(), learnt, allow_unused=True),
        torch.autograd.grad(all_of_them.square().sum(), learnt, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(given, expected)


def test_a_dropped_last_layer_gives_the_wanted_positions():
    module = stack(layer_drop=0.999, dropout=0.0).train()
    sequence, valid = torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool)
    wanted = torch.tensor([[True, False, True, True, False]])
    assert torch.equal(module(sequence, valid=valid, wanted=wanted)[0], module.norm(sequence)[wanted])


def test_biases_have_the_memory_layout_that_attention_reads():
    """One head is stored after the other, because layers would take several times as long with interleaved heads."""
    assert RelativeBias(3, buckets=8, max_distance=5)(7).is_contiguous()
    gated = stack(gated=True).layers[0].attention
    query = torch.randn(2, 7, 2, 8).transpose(1, 2)
    assert gated.gate(query).is_contiguous()
