"""The loss of objectives that predict vectors, and the loss of guessing for comparison."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def squared_error(found: Tensor, target: Tensor) -> Tensor:
    """Compute the mean squared difference of each vector's numbers: (M, D), (M, D) to (M,) float32."""
    return (found.float() - target).square().mean(-1)


def guessing_cost(target: Tensor) -> Tensor:
    """Compute the loss of each vector if the mean of all vectors were predicted: (M, D) to (M,)."""
    return squared_error(target.mean(0, keepdim=True), target).detach()


def futile(metrics: Mapping[str, float], progress: float) -> list[str]:
    """Warn if, in the second half of the training, the loss is above that of guessing the mean of the targets."""
    if progress <= 0.5 or metrics["loss"] <= metrics["guessing_loss"]:
        return []
    return [
        f"nothing is learnt: the loss {metrics['loss']:.3f} is above {metrics['guessing_loss']:.3f}, the loss of "
        f"guessing the mean of the targets; try a longer warm-up or another lr"
    ]
