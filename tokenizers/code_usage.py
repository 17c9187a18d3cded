"""What a histogram over codes tells: how many are used, how evenly, and whether they have collapsed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COLLAPSED_PERPLEXITY = 3.0
"""Fewer effective tokens than this make the task trivial."""


def counted(ids: Tensor, codebook_size: int) -> Tensor:
    """Count the codes of every stream of tokens, one stream after the other: (n, G) int64 to (G · K,) int64."""
    streams = ids.shape[-1]
    shifted = ids + codebook_size * torch.arange(streams, device=ids.device)
    return torch.bincount(shifted.flatten(), minlength=streams * codebook_size)


def entropy(counts: Tensor) -> float:
    """Entropy of a histogram in nats; 0 for an empty one."""
    share = counts[counts > 0].double()
    share = share / share.sum()
    return float(-(share * share.log()).sum())


def perplexity(counts: Tensor) -> float:
    """How many equally likely codes would have the histogram's entropy."""
    return math.exp(entropy(counts))


def collapse(token_perplexity: float, codebook_size: int) -> list[str]:
    """A warning if nearly all tokens are the same few."""
    if token_perplexity >= COLLAPSED_PERPLEXITY:
        return []
    return [
        f"the tokens have collapsed: perplexity {token_perplexity:.1f} of {codebook_size} codes; normalise before the "
        "projection, or start the tokenizer anew with another seed, a lower lr or `revive_below`"
    ]
