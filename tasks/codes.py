"""What a histogram over codes tells: how many are used, how evenly, and whether they have collapsed."""

from __future__ import annotations

import math

from torch import Tensor

COLLAPSED_PERPLEXITY = 3.0
"""Fewer effective labels than this make the task trivial."""


def entropy(counts: Tensor) -> float:
    """Entropy of a histogram in nats; 0 for an empty one."""
    share = counts[counts > 0].double()
    share = share / share.sum()
    return float(-(share * share.log()).sum())


def perplexity(counts: Tensor) -> float:
    """How many equally likely codes would have the histogram's entropy."""
    return math.exp(entropy(counts))


def collapse(label_perplexity: float, codebook_size: int) -> list[str]:
    """A warning if nearly all labels are the same few."""
    if label_perplexity >= COLLAPSED_PERPLEXITY:
        return []
    return [
        f"the labels have collapsed: perplexity {label_perplexity:.1f} of {codebook_size} codes; normalise before the "
        "projection, or start the tokenizer anew with another seed, a lower lr or `revive_below`"
    ]
