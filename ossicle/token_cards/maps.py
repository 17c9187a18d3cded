"""Maps of clips in the plane: clips that are similar for a tokenizer or its encoder are close together.

Notable choices:

- PCA to 50 dimensions, then t-SNE (van der Maaten & Hinton, 2008), as in figure 4 of BEATs.
- A map shows neighbourhoods and not distances. So the share of clips whose nearest neighbour has the same class is
  computed in the space before the map.
- The tokens of a clip are represented by the square roots of the shares of each code in each band. Their Euclidean
  distance is Hellinger's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from .clip_tokens import ClipTokens, Ids

DIMENSIONS = 50
FEWEST = 8


@dataclass(frozen=True)
class ClipMap:
    """A map of the drawn clips.

    Attributes:
        points: (clips, 2) in [0, 1]
        neighbours: share of clips whose nearest neighbour, before the map, has the same class; None without classes
        chance: share of pairs of clips with the same class
    """

    points: npt.NDArray[np.float64]
    neighbours: float | None
    chance: float | None


def map_of_tokens(tokens: ClipTokens, classes: Ids | None, *, seed: int) -> ClipMap | None:
    """Map clips by their tokens; None for fewer than `FEWEST` clips."""
    return _laid_out(bags(tokens), classes, seed) if len(tokens.ids) >= FEWEST else None


def map_of_embeddings(embedded: npt.NDArray[np.float32] | None, classes: Ids | None, *, seed: int) -> ClipMap | None:
    """Map clips by their embeddings; None without an encoder, or for fewer than `FEWEST` clips."""
    if embedded is None or len(embedded) < FEWEST:
        return None
    return _laid_out(StandardScaler().fit_transform(embedded), classes, seed)


def bags(tokens: ClipTokens) -> npt.NDArray[np.float32]:
    """Compute the square roots of the share of each code in each band, for all streams: (clips, codes in use)."""
    clips, bands = tokens.clips, tokens.positions % tokens.bands
    found = []
    for stream in range(tokens.streams):
        _, code = np.unique(bands * tokens.codebook_size + tokens.joined(stream), return_inverse=True)
        counts = np.zeros((len(tokens.ids), code.max() + 1), dtype=np.float32)
        np.add.at(counts, (clips, code), 1)
        found.append(np.sqrt(counts / counts.sum(1, keepdims=True)))
    return np.concatenate(found, axis=1)


def _laid_out(space: npt.NDArray[np.float32], classes: Ids | None, seed: int) -> ClipMap:
    neighbours, chance = _neighbours(space, classes)
    few = min(DIMENSIONS, *space.shape)
    reduced = PCA(few, random_state=seed).fit_transform(space)
    if np.ptp(space, axis=0).max() < 1e-6:
        points = np.zeros((len(space), 2))
    else:
        perplexity = min(30.0, (len(space) - 1) / 3)
        points = TSNE(perplexity=perplexity, init="random", random_state=seed).fit_transform(reduced)
    low, high = points.min(0), points.max(0)
    return ClipMap((points - low) / np.maximum(high - low, 1e-12), neighbours, chance)


def _neighbours(space: npt.NDArray[np.float32], classes: Ids | None) -> tuple[float | None, float | None]:
    if classes is None:
        return None, None
    nearest = NearestNeighbors(n_neighbors=1).fit(space).kneighbors(return_distance=False)[:, 0]
    counts = np.bincount(classes)
    chance = (counts * (counts - 1)).sum() / (len(classes) * (len(classes) - 1))
    return float((classes[nearest] == classes).mean()), float(chance)
