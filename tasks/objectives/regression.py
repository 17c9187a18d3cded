"""Vectors that are to be equal: the loss of it, and what guessing would cost."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def squared_error(found: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of each vector's numbers: (M, D), (M, D) to (M,) float32."""
    return (found.float() - target).square().mean(-1)


def guessing_cost(target: Tensor) -> Tensor:
    """What each vector would cost if the mean of all were guessed: (M, D) to (M,)."""
    return squared_error(target.mean(0, keepdim=True), target).detach()


def futile(metrics: Mapping[str, float], progress: float) -> list[str]:
    """A warning if, late in the training, guessing the targets' mean would cost less than what was learnt."""
    if progress <= 0.5 or metrics["loss"] <= metrics["guessing_loss"]:
        return []
    return [
        f"nothing is learnt: the loss {metrics['loss']:.3f} is above {metrics['guessing_loss']:.3f}, what guessing the "
        f"targets' mean costs; try a longer warm-up or another lr"
    ]
