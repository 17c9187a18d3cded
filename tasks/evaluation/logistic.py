"""Logistic regression on standardised features, along a path of regularisation strengths.

Notable choices:

- The path runs from strong to weak regularisation, and every fit starts from the one before.
- With one label per clip the regression is multinomial. With several there is a two-class regression per class.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits


@dataclass(frozen=True)
class LogisticFit:
    """A model fitted with one regularisation strength.

    Attributes:
        strength: inverse regularisation
        scaler: scales features to zero mean and unit variance over the training clips; constant features stay constant
        weights: (classes, D)
        bias: (classes,)
        unconverged: regressions that stopped before L-BFGS converged
    """

    strength: float
    scaler: StandardScaler
    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    unconverged: int

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Compute logits: (clips, D) to (clips, classes). Unlike probabilities, they do not saturate into ties."""
        return np.asarray(self.scaler.transform(features) @ self.weights.T + self.bias, dtype=np.float64)


def logistic_path(
    features: npt.NDArray[np.float32],
    truth: npt.NDArray[np.bool_],
    strengths: Sequence[float],
    *,
    multi_label: bool,
    max_iterations: int,
) -> Iterator[LogisticFit]:
    """Fit one model per strength, the most regularised first.

    Args:
        features: (clips, D)
        truth: (clips, classes) bool; every class has clips with and without it
    """
    scaler = StandardScaler().fit(features)
    standardised = scaler.transform(features)
    targets = list(truth.T) if multi_label else [truth.argmax(axis=1)]
    models = [LogisticRegression(warm_start=True, max_iter=max_iterations) for _ in targets]
    for strength in sorted(strengths):
        unconverged = 0
        for model, target in zip(models, targets, strict=True):
            model.set_params(C=strength)
            unconverged += not _fit(model, standardised, target)
        weights = np.concatenate([model.coef_ for model in models]).astype(np.float64)
        bias = np.concatenate([model.intercept_ for model in models]).astype(np.float64)
        if not multi_label and len(weights) == 1:
            # For two classes scikit-learn returns only the log-odds of the second.
            weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        yield LogisticFit(strength, scaler, weights, bias, unconverged)


def _fit(model: LogisticRegression, features: npt.NDArray[np.float32], target: npt.NDArray[np.generic]) -> bool:
    """Fit in place, and return whether L-BFGS converged."""
    # One thread, because the matrix products are small: several threads are several times slower, and sums would depend
    # on the number of cores.
    with warnings.catch_warnings(record=True) as caught, threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, target)
    for warning in caught:
        if not issubclass(warning.category, ConvergenceWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
