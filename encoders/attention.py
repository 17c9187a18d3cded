"""Attention with a gated bias, in bounded memory.

Notable choices:

- torch's scaled dot-product attention does the work, with the gated bias as an additive mask, except in training on a
  CPU. There torch would store five tensors of the size of the attention weights for the backward pass as soon as the
  mask needs a gradient. `_Attention` computes the weights again instead.
- A CPU processes only as many clips at a time as fit into its caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .dropout import draw_seed, kept, on_cpu, scale

_AT_ONCE: Final = 2**22
"""Attention weights that are computed at once, about as many as fit into the caches."""


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    padding: Tensor,
    bias: Tensor | None = None,
    gate: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend: (B, H, N, d), (B, H, M, d), (B, H, M, d) to (B, H, N, d).

    Args:
        padding: (B, 1, 1, M), 0 for visible keys and -inf for padding
        bias: (H, N, M) or (B, H, N, M), added to the logits
        gate: (B, H, N, 1), the factor by which each query scales the bias
        dropout: dropout probability of the attention weights
    """
    if not on_cpu(query) or (bias is None and not dropout):
        return _torchs(query, key, value, _mask(padding, bias, gate), dropout)
    if torch.is_grad_enabled():
        # Autocast is off in the backward pass, and both passes must compute the same weights.
        with torch.autocast("cpu", enabled=False):
            attended: Tensor = _Attention.apply(query, key, value, padding, bias, gate, dropout)  # type: ignore[no-untyped-call]
        return attended
    out = torch.empty_like(query)
    for own in _chunks(query, key):
        mask = _mask(padding[own[0]], _of(bias, own), _of(gate, own))
        out[own] = _torchs(query[own], key[own], value[own], mask, dropout)
    return out


def _torchs(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype), dropout_p=dropout)


def _mask(padding: Tensor, bias: Tensor | None, gate: Tensor | None) -> Tensor:
    if bias is None:
        return padding
    return padding + bias if gate is None else torch.addcmul(padding, gate, bias)


class _Attention(torch.autograd.Function):
    """Attention that stores no tensor of the size of its weights for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding: Tensor,
        bias: Tensor | None,
        gate: Tensor | None,
        dropout: float,
    ) -> Tensor:
        ctx.dropout, ctx.seed = dropout, draw_seed() if dropout else 0
        ctx.save_for_backward(query, key, value, padding, bias, gate)
        out = torch.empty_like(query)
        for number, own in enumerate(_chunks(query, key)):
            weights = _weights(query[own], key[own], padding[own[0]], _of(bias, own), _of(gate, own))
            if dropout:
                weights *= kept(weights, dropout, ctx.seed + number)
            out[own] = weights @ value[own]
        return out.mul_(scale(dropout)) if dropout else out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, padding, bias, gate = ctx.saved_tensors
        of_query, of_key, of_value = map(torch.empty_like, (query, key, value))
        of_bias = None if bias is None else torch.zeros_like(bias)
        of_gate = None if gate is None else torch.empty_like(gate)
        gradient = gradient * scale(ctx.dropout)
        for number, own in enumerate(_chunks(query, key)):
            own_bias, own_gate = _of(bias, own), _of(gate, own)
            weights = _weights(query[own], key[own], padding[own[0]], own_bias, own_gate)
            of_weights = gradient[own] @ value[own].mT
            stayed = weights
            if ctx.dropout:
                stays = kept(weights, ctx.dropout, ctx.seed + number)
                of_weights *= stays
                stayed = stays.mul_(weights)
            of_value[own] = stayed.mT @ gradient[own]
            of_logits = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            smaller = query.shape[-1] ** -0.5
            torch.mul(of_logits @ key[own], smaller, out=of_query[own])
            torch.mul(of_logits.mT @ query[own], smaller, out=of_key[own])
            if of_gate is not None:
                assert own_bias is not None
                assert own_gate is not None
                of_gate[own] = (of_logits * own_bias).sum(-1, keepdim=True)
                of_logits *= own_gate
            if of_bias is not None:
                part = of_bias[own] if of_bias.dim() == 4 else of_bias[own[1]]
                part += of_logits if of_bias.dim() == 4 else of_logits.sum(0)
        return of_query, of_key, of_value, None, of_bias, of_gate, None


def _chunks(query: Tensor, key: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of clips and heads that are computed together: several clips, or some heads of one long clip."""
    clips, heads, queries, _ = query.shape
    of_head = max(1, queries * key.shape[2])
    some_clips, some_heads = max(1, _AT_ONCE // (heads * of_head)), min(heads, max(1, _AT_ONCE // of_head))
    for clip in range(0, clips, some_clips):
        for head in range(0, heads, some_heads):
            yield slice(clip, clip + some_clips), slice(head, head + some_heads)


def _of(tensor: Tensor | None, own: tuple[slice, slice]) -> Tensor | None:
    """Take the slice of a bias or gate. A bias that all clips share has no axis for clips."""
    if tensor is None:
        return None
    return tensor[own] if tensor.dim() == 4 else tensor[own[1]]


def _weights(query: Tensor, key: Tensor, padding: Tensor, bias: Tensor | None, gate: Tensor | None) -> Tensor:
    """Compute the attention weights: (B, H, N, M), each row sums to 1."""
    clips, heads, queries, size = query.shape
    fresh = padding.expand(clips, heads, queries, -1).clone() if bias is None else _mask(padding, bias, gate)
    logits = fresh.to(query.dtype).flatten(0, 1)
    logits.baddbmm_(query.flatten(0, 1), key.flatten(0, 1).mT, alpha=size**-0.5)
    weights = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return weights.to(query.dtype).view(clips, heads, queries, key.shape[2])
