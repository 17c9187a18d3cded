"""k-means on the unit sphere and in Euclidean space, and a uniform sample of a stream to run it on.

Notable choices:

- On the sphere the implementation is ours, because codebooks must start as in the released code.
- In Euclidean space it is scikit-learn's on one thread, so the same vectors always give the same centres.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import normalize


def spherical_kmeans(samples: Tensor, start: Tensor, *, rounds: int) -> tuple[Tensor, Tensor]:
    """Cluster unit vectors by cosine. A cluster that loses all its members keeps its centre.

    Args:
        samples: (n, d) of unit length
        start: (K, d) first centres, of unit length

    Returns:
        Centres (K, d) of unit length, and the members of each cluster in the last round, (K,) int64.
    """
    centres, counts = start.clone(), samples.new_zeros(len(start), dtype=torch.int64)
    for _ in range(rounds):
        nearest = (samples @ centres.T).argmax(-1)
        counts = torch.bincount(nearest, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, nearest, samples)
        centres = torch.where(counts[:, None] > 0, normalize(sums, dim=-1), centres)
    return centres, counts


def flat_kmeans(samples: Tensor, size: int, *, rounds: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cluster vectors by Euclidean distance, from a k-means++ start.

    Args:
        samples: (n, d)
        size: K; with fewer samples, several centres are at the same sample
        rounds: maximum number of rounds

    Returns:
        Centres (K, d), and the members of each cluster, (K,) int64, both on the samples' device.
    """
    vectors = samples.float().cpu().numpy()
    clusters = min(size, len(vectors))
    model = KMeans(clusters, n_init=1, max_iter=rounds, random_state=seed)
    with warnings.catch_warnings(), threadpool_limits(1):
        # There can be fewer different vectors than clusters, as in silence. This is not an error.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(vectors)
    again = np.arange(size) % clusters
    centres = torch.from_numpy(model.cluster_centers_[again])
    counts = torch.from_numpy(np.bincount(model.labels_, minlength=clusters)[again])
    return centres.to(samples.device), counts.to(samples.device)


class Reservoir:
    """A uniform sample of a stream of unknown length (Vitter, 1985, algorithm R).

    Args:
        size: number of slots
        seed: determines the sample, together with the order of the stream
    """

    def __init__(self, size: int, *, seed: int) -> None:
        self.size = size
        self.seen = 0
        self._generator = np.random.default_rng(seed)

    def slots(self, items: int) -> npt.NDArray[np.int64]:
        """Return the slot of each of the next `items`, in order. An item with a slot of `size` or above is left out."""
        numbers = np.arange(self.seen, self.seen + items)
        self.seen += items
        slots: npt.NDArray[np.int64] = np.where(numbers < self.size, numbers, self._generator.integers(0, numbers + 1))
        return slots


def sampled(vectors: Iterable[Tensor], count: int, *, seed: int) -> Tensor:
    """Draw `count` vectors uniformly from a stream, or all if there are fewer: each (n, d) to (count, d) float32."""
    reservoir, kept = Reservoir(count, seed=seed), np.empty((0, 0), dtype=np.float32)
    for batch in vectors:
        here: npt.NDArray[Any] = batch.float().cpu().numpy()
        if not kept.size:
            kept = np.empty((count, here.shape[1]), dtype=np.float32)
        slots = reservoir.slots(len(here))
        inside = slots < count
        # If two items have the same slot, NumPy keeps the later one, as the algorithm requires.
        kept[slots[inside]] = here[inside]
    return torch.from_numpy(kept[: reservoir.seen])
