"""Statistics of code usage: how many codes are used, how evenly, and whether they have collapsed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COLLAPSED_PERPLEXITY = 3.0
"""The task is trivial if the perplexity is below this."""


def counted(ids: Tensor, codebook_size: int) -> Tensor:
    """Count the codes of every stream of tokens, one stream after the other: (n, G) int64 to (G · K,) int64."""
    streams = ids.shape[-1]
    shifted = ids + codebook_size * torch.arange(streams, device=ids.device)
    return torch.bincount(shifted.flatten(), minlength=streams * codebook_size)


def entropy(counts: Tensor) -> float:
    """Return the entropy of a histogram in nats; 0 if it is empty."""
    share = counts[counts > 0].double()
    share = share / share.sum()
    return float(-(share * share.log()).sum())


def perplexity(counts: Tensor) -> float:
    """Return the number of equally likely codes with the entropy of the histogram."""
    return math.exp(entropy(counts))


def collapse(token_perplexity: float, codebook_size: int) -> list[str]:
    """Return a warning if a few codes make up nearly all tokens."""
    if token_perplexity >= COLLAPSED_PERPLEXITY:
        return []
    return [
        f"the tokens have collapsed: perplexity {token_perplexity:.1f} of {codebook_size} codes; normalise before the "
        "projection, or start the tokenizer again with another seed, a lower lr or `revive_below`"
    ]
