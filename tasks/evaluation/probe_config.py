"""Configurations of the probes. Importable without torch or scikit-learn, so that `ossicle check` is fast."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ...core.task import TaskConfig


class LinearProbeConfig(TaskConfig):
    """Logistic regression on standardised frozen features."""

    strengths: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
    """Candidates for the inverse regularisation (scikit-learn's `C`, relative to the loss summed over clips)."""

    max_iterations: PositiveInt = 1000
    """Steps of L-BFGS after which a fit counts as not converged."""


class KnnProbeConfig(TaskConfig):
    """Votes of the nearest training clips in the space of frozen features (k-nearest neighbours)."""

    neighbours: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 3, 5, 10, 20)
    """Candidates for the number of neighbours. Numbers larger than the number of training clips are left out."""

    metric: Literal["cosine", "euclidean"] = "cosine"
    """The distance between features."""
