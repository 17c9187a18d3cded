"""Compare alternative implementations of single operations on a CPU: `python -m ossicle.benchmarks.tried`.

Notable choices:

- Sizes are those of the base encoder on 10 s clips (496 patches), with one thread.
- Contenders take turns in one process, because they are operations and not programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders.attention import attend
from ..encoders.conv_position import correlate_direct, correlate_fourier
from ..encoders.dropout import Dropout
from ..training.memory import keep_freed_memory
from .protocol import interleave, ratio, take

CLIPS: Final = 4
PATCHES: Final = 496
HEADS: Final = 12
WIDTH: Final = 768
ROUNDS: Final = 9

Trial = Mapping[str, Callable[[], object]]


def linear_layers() -> Trial:
    """One product for queries, keys and values, or three; by MKL with different weight layouts, oneDNN or OpenBLAS."""
    vectors = torch.randn(CLIPS * PATCHES, WIDTH)
    weights = [torch.randn(WIDTH, WIDTH) for _ in range(3)]
    fused, bias = torch.cat(weights), torch.zeros(3 * WIDTH)
    transposed, packed = fused.T.contiguous(), torch.ops.mkl._mkl_reorder_linear_weight(fused, len(vectors))
    packed_for_onednn = torch.ops.mkldnn._reorder_linear_weight(fused, len(vectors))
    return {
        "three products": lambda: [F.linear(vectors, weight) for weight in weights],
        "one product": lambda: F.linear(vectors, fused),
        "one product, weights transposed before": lambda: vectors @ transposed,
        "one product, weights packed before": lambda: torch.ops.mkl._mkl_linear(
            vectors, packed, fused, bias, len(vectors)
        ),
        "one product, packed for oneDNN": lambda: torch.ops.mkldnn._linear_pointwise(
            vectors, packed_for_onednn, bias, "none", [], ""
        ),
        "one product, by numpy's OpenBLAS": lambda: vectors.numpy() @ fused.numpy().T,
    }


def feed_forward_network() -> Trial:
    """Without gradients: all rows at once, or a few whose activations fit into the caches; or GELU in place."""
    vectors = torch.randn(CLIPS * PATCHES, WIDTH)
    expand, contract = torch.randn(4 * WIDTH, WIDTH), torch.randn(WIDTH, 4 * WIDTH)

    def at_once() -> Tensor:
        return F.linear(F.gelu(F.linear(vectors, expand)), contract)

    def in_place() -> Tensor:
        return F.linear(torch.ops.aten.gelu_(F.linear(vectors, expand)), contract)

    def some_at_a_time(rows: int) -> list[Tensor]:
        parts = (vectors[first : first + rows] for first in range(0, len(vectors), rows))
        return [F.linear(F.gelu(F.linear(some, expand)), contract) for some in parts]

    return {
        "all rows at once": at_once,
        "the same, GELU in place": in_place,
        "a clip at a time": partial(some_at_a_time, PATCHES),
        "128 rows at a time": partial(some_at_a_time, 128),
    }


def gated_bias() -> Trial:
    """The bias of one clip, scaled by its gate: with interleaved heads, or one head after the other."""
    alternating = torch.randn(PATCHES, PATCHES, HEADS).permute(2, 0, 1)
    gate, bias = torch.rand(1, HEADS, PATCHES, 1), alternating.contiguous()
    return {"heads alternate": lambda: gate * alternating, "one head after the other": lambda: gate * bias}


def attention_without_gradients() -> Trial:
    """torch's kernel with the gated bias as its mask, all clips at once or a few at a time; or plain operations."""
    query, key, value = (torch.randn(CLIPS, HEADS, PATCHES, WIDTH // HEADS) for _ in range(3))
    bias, gate = torch.randn(HEADS, PATCHES, PATCHES), torch.rand(CLIPS, HEADS, PATCHES, 1)
    padding = torch.zeros(CLIPS, 1, 1, PATCHES)

    def at_once() -> None:
        mask = torch.addcmul(padding, gate, bias)
        F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    @torch.no_grad()
    def some_at_a_time() -> None:
        attend(query, key, value, padding=padding, bias=bias, gate=gate)

    def by_hand() -> None:
        for clip in range(CLIPS):
            logits = torch.baddbmm(gate[clip] * bias, query[clip], key[clip].mT, alpha=query.shape[-1] ** -0.5)
            torch.bmm(logits.softmax(-1), value[clip])

    return {
        "torch's kernel": at_once,
        "torch's kernel, a few clips at a time": some_at_a_time,
        "products and softmax, clip by clip": by_hand,
    }


def attention_with_gradients() -> Trial:
    """Forward and backward: weights stored, in plain torch, clip by clip; or computed again."""
    query, key, value = (torch.randn(CLIPS, HEADS, PATCHES, WIDTH // HEADS, requires_grad=True) for _ in range(3))
    bias = torch.randn(HEADS, PATCHES, PATCHES, requires_grad=True)
    gate = torch.rand(CLIPS, HEADS, PATCHES, 1, requires_grad=True)
    padding = torch.zeros(CLIPS, 1, 1, PATCHES)

    def stored() -> None:
        total = torch.zeros(())
        for own in zip(query, key, value, gate, strict=True):
            logits = torch.baddbmm(own[3] * bias, own[0], own[1].mT, alpha=query.shape[-1] ** -0.5)
            total = total + (logits.softmax(-1) @ own[2]).sum()
        total.backward()  # type: ignore[no-untyped-call]

    def computed_again() -> None:
        attend(query, key, value, padding=padding, bias=bias, gate=gate).sum().backward()  # type: ignore[no-untyped-call]

    return {"stored": stored, "computed again": computed_again}


def dropout() -> Trial:
    """torch's dropout, or sixteen random bits per element, drawn by torch or by numpy."""
    vectors = torch.randn(CLIPS, PATCHES, WIDTH)
    ours = Dropout(0.1).train()

    def drawn_by_torch() -> Tensor:
        drawn = torch.empty(vectors.numel() // 4, dtype=torch.int64).random_(-(2**63), None)
        stays = drawn.view(torch.int16).view(vectors.shape) >= round(0.1 * 2**16) - 2**15
        return (vectors * stays).mul_(1 / 0.9)

    return {
        "torch's": lambda: F.dropout(vectors, 0.1),
        "16 bits by torch": drawn_by_torch,
        "ours": lambda: ours(vectors),
    }


def position_convolution() -> Trial:
    """Forward and backward: direct, by Fourier transforms of all groups at once, or group by group."""
    signal = torch.randn(CLIPS, WIDTH, PATCHES, requires_grad=True)
    weight = torch.randn(WIDTH, WIDTH // 16, 128, requires_grad=True)

    def all_at_once() -> Tensor:
        size = 576
        signals = torch.fft.rfft(signal, n=size).unflatten(1, (16, -1)).permute(1, 3, 0, 2).contiguous()
        kernels = torch.fft.rfft(weight, n=size).conj().unflatten(0, (16, -1)).permute(0, 3, 2, 1)
        product = (signals @ kernels).permute(2, 0, 3, 1).flatten(1, 2)
        steps: Tensor = torch.fft.irfft(product, n=size)
        return steps.roll(64, dims=-1)[..., :PATCHES]

    return {
        "direct": lambda: correlate_direct(signal, weight, groups=16).sum().backward(),  # type: ignore[no-untyped-call]
        "Fourier, all groups at once": lambda: all_at_once().sum().backward(),  # type: ignore[no-untyped-call]
        "Fourier, group by group": lambda: correlate_fourier(signal, weight, groups=16).sum().backward(),  # type: ignore[no-untyped-call]
    }


def transform_sizes() -> Trial:
    """The spectra of the convolution's weights, for several lengths of the transform."""
    weight = torch.randn(WIDTH, WIDTH // 16, 128)
    return {str(size): partial(torch.fft.rfft, weight, n=size) for size in (576, 600, 625, 640, 256)}


def half_precision() -> Trial:
    """One product of the feed-forward layers, in fp32 or bf16."""
    vectors, weight = torch.randn(PATCHES, WIDTH), torch.randn(4 * WIDTH, WIDTH)
    halves = vectors.bfloat16(), weight.bfloat16()
    return {"fp32": lambda: F.linear(vectors, weight), "bf16": lambda: F.linear(*halves)}


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    trials = (
        linear_layers,
        feed_forward_network,
        gated_bias,
        attention_without_gradients,
        attention_with_gradients,
        dropout,
        position_convolution,
        transform_sizes,
        half_precision,
    )
    for trial in trials:
        actions = trial()
        turns = {name: partial(take, action) for name, action in actions.items()}
        interleave(turns, 2)
        taken = interleave(turns, ROUNDS)
        first = [each.cpu for each in taken[next(iter(taken))]]
        print(trial.__name__.replace("_", " "))
        for name, times in taken.items():
            found = ratio(first, [each.cpu for each in times])
            print(f"  {name}: {found.median:.2f} [{found.lowest:.2f}–{found.highest:.2f}] times as fast as the first")


if __name__ == "__main__":
    main()
