"""Times, ratios, operation counts and comparisons of outputs."""

from __future__ import annotations

import time

import pytest
import torch
from torch.nn import functional as F

from ossicle.benchmarks.inference_works import encoder, encoder_work, front_end
from ossicle.benchmarks.protocol import (
    BareProducts,
    Spread,
    Taken,
    agreement,
    count_flops,
    interleave,
    ratio,
    shares,
    take,
)
from ossicle.benchmarks.work import Case, Products
from ossicle.encoders.encoder_config import SIZES


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def turn(name: str) -> Taken:
        order.append(name)
        return Taken(cpu=1.0, wall=1.0)

    taken = interleave({"one": lambda: turn("one"), "two": lambda: turn("two")}, 3)
    assert order == ["one", "two"] * 3
    assert {name: len(times) for name, times in taken.items()} == {"one": 3, "two": 3}


def test_a_ratio_is_computed_within_each_round() -> None:
    # The ratio of the medians would be 2 / 10.
    assert ratio([1.0, 2.0, 30.0], [10.0, 1.0, 20.0]) == Spread(median=1.5, lowest=0.1, highest=2.0)


def test_waiting_takes_no_processor_seconds() -> None:
    taken = take(lambda: time.sleep(0.2))
    assert taken.wall >= 0.2
    assert taken.cpu < 0.1


def test_operation_counts_of_products_and_attention_are_correct() -> None:
    bare = BareProducts(Products(rows=10, width=8, hidden=32), "fp32", torch.device("cpu"), flops=1)
    assert count_flops(bare) == bare.flops == 2 * 2 * 10 * 8 * 32
    query = torch.randn(2, 3, 20, 16)
    mask = torch.zeros(2, 1, 20, 20)
    attended = count_flops(lambda: F.scaled_dot_product_attention(query, query, query, attn_mask=mask))
    assert attended == 2 * (2 * 2 * 3 * 20 * 20 * 16)


def test_operation_counts_of_an_encoder_are_correct() -> None:
    shape, patches = SIZES["tiny"], 496
    projections = 4 * shape.width**2 + 2 * shape.width * shape.feed_forward
    attention = 2 * patches * shape.width
    stem = 256 * shape.patch_width
    by_hand = 2 * patches * (stem + shape.layers * (projections + attention))
    clips, made, own = Case("encoder", "tiny", 1).clips(), encoder("tiny"), front_end()
    with torch.no_grad():
        counted = count_flops(lambda: made(own(clips)))
    # Gates and, unless it uses Fourier transforms, the position convolution add to this.
    convolution = 2 * patches * shape.width * (shape.width // 16) * 128
    assert by_hand <= counted <= 1.02 * (by_hand + convolution)


def test_a_share_is_computed_within_each_round() -> None:
    bare = BareProducts(Products(rows=10, width=8, hidden=32), "fp32", torch.device("cpu"), flops=1)
    found = shares(bare.flops // 2, [1.0, 4.0, 1.0], bare, [1.0, 2.0, 0.5])
    assert found == Spread(median=0.25, lowest=0.25, highest=0.5)


@pytest.mark.parametrize(("scale", "holds"), [(1.0005, True), (1.002, False)])
def test_vectors_may_differ_by_a_thousandth(scale: float, holds: bool) -> None:
    vectors = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    found = agreement(vectors, scale * vectors, "fp32")
    assert found.difference == pytest.approx(scale - 1, rel=1e-3)
    assert found.holds is holds


def test_in_bf16_directions_are_compared() -> None:
    vectors = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert agreement(vectors, vectors.bfloat16().float(), "bf16").holds
    assert not agreement(vectors, vectors.roll(1, dims=1), "bf16").holds


def test_tokens_and_shapes_are_compared() -> None:
    tokens = torch.arange(100)
    assert agreement(tokens, tokens.clone(), "fp32").holds
    assert agreement(tokens, tokens.clamp(min=1), "fp32").difference == pytest.approx(0.01)
    assert not agreement(tokens, tokens.clamp(min=1), "fp32").holds
    assert not agreement(tokens, tokens[1:], "fp32").holds


def test_a_mix_of_lengths_is_padded_with_silence() -> None:
    case = Case("encoder", "tiny", 6, "mix")
    clips = case.clips()
    lengths = clips.lengths.tolist()
    assert lengths == sorted(lengths, reverse=True)
    assert 16_000 <= lengths[-1] < lengths[0] == clips.waveform.shape[1] <= 160_000
    assert all(not wave[length:].any() for wave, length in zip(clips.waveform, lengths, strict=True))
    assert encoder_work(case, []).audio_seconds == pytest.approx(sum(lengths) / 16_000)
