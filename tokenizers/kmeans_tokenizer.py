"""k-means tokenizers in HuBERT's way (arXiv 2106.07447, section II): centres of patches, or of a teacher's vectors.

Notable choices: the centres are found among vectors drawn uniformly from the whole corpus, by scikit-learn's k-means;
a teacher becomes part of the tokenizer, frozen, and runs without dropout. HuBERT clusters the vectors of a tenth of its
corpus, in minibatches, and its acoustic features are MFCCs.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..core.build import build
from ..core.choices import PartChoice
from ..core.data import Encoded, PatchBatch
from ..core.errors import PluginError
from ..core.interfaces import Encoder, Tokenizer
from .clustering import flat_kmeans, sampled
from .nearest import nearest_code
from .tokenizer_config import KMeansConfig


class KMeans(Tokenizer):
    """Label a patch by the centre nearest to it, or to what an encoder makes of it.

    Args:
        patch_dim: P, numbers per patch
        bands: patches per time column
        teacher_choice: the kind of encoder that teaches, where a layer of it is clustered
        teacher: that encoder with its weights; a tokenizer that is loaded brings its own

    Raises:
        PluginError: if a layer is to be clustered and there is no teacher
    """

    centres: Tensor
    teacher: Encoder

    def __init__(
        self,
        config: KMeansConfig,
        patch_dim: int,
        bands: int,
        teacher_choice: PartChoice | None = None,
        teacher: Encoder | None = None,
    ) -> None:
        super().__init__(config.codebook_size)
        self.config = config
        width = patch_dim
        if config.layer is not None:
            if teacher_choice is None:
                raise PluginError(f"tokenizer `kmeans` needs a teacher whose `layer` {config.layer} it can cluster")
            self.teacher = build(teacher_choice, Encoder, patch_dim=patch_dim, bands=bands).requires_grad_(False)
            if teacher is not None:
                self.teacher.load_state_dict(teacher.state_dict())
            width = self.teacher.width
        self.register_buffer("centres", torch.zeros(config.codebook_size, width))

    def forward(self, batch: PatchBatch) -> Tensor:
        return nearest_code(self.encode(batch), self.centres)

    def encode(self, batch: PatchBatch) -> Tensor:
        """Give the vector of each patch that is clustered: (B, N, d) float32.

        Raises:
            PluginError: if the teacher has no such layer
        """
        vectors = self._vectors(batch).float()
        return nn.functional.layer_norm(vectors, vectors.shape[-1:]) if self.config.normalize == "layer" else vectors

    def _vectors(self, batch: PatchBatch) -> Tensor:
        layer = self.config.layer
        if layer is None:
            return batch.patches
        encoded: Encoded = self.teacher(batch, layers=layer != "last")
        if layer == "last":
            return encoded.sequence
        if problems := self.config.check_compatibility({"teacher_layers": len(encoded.layers) - 1}):
            raise PluginError(f"tokenizer `kmeans`: {'; '.join(problems)}")
        return encoded.layers[layer]

    @torch.no_grad()
    def fit(self, batches: Iterable[PatchBatch]) -> None:
        """Find the centres."""
        self.eval()
        vectors = (self.encode(batch)[batch.valid] for batch in batches)
        count = self.config.kmeans_vectors * self.codebook_size
        drawn = sampled(vectors, count, seed=self.seed)
        centres, _ = flat_kmeans(drawn, self.codebook_size, rounds=self.config.kmeans_rounds, seed=self.seed)
        self.centres.copy_(centres)
