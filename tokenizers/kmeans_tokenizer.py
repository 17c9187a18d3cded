"""k-means tokenizers as in HuBERT (arXiv 2106.07447, section II): centres of patches or of a teacher's vectors.

Notable choices:

- scikit-learn's k-means runs on vectors that are drawn uniformly from the whole corpus. HuBERT uses the vectors of a
  tenth of its corpus, in minibatches, and its acoustic features are MFCCs.
- With a teacher, `input_normalization` applies to the teacher's vectors, because the teacher needs the input of its
  training.
- The teacher becomes a frozen part of the tokenizer, without dropout, so the artifact is complete.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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
    """Give a patch the centre nearest to it, or to its vector in a layer of a teacher.

    Args:
        patch_dim: P, numbers per patch
        bands: patches per time column
        teacher_choice: the encoder of the teacher, if one of its layers is clustered
        teacher: that encoder with its weights; a loaded tokenizer has its weights in the artifact

    Raises:
        PluginError: if `layer` is set and there is no teacher
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
                raise PluginError(f"tokenizer `kmeans` needs a teacher, because it clusters `layer: {config.layer}`")
            self.teacher = build(teacher_choice, Encoder, patch_dim=patch_dim, bands=bands).requires_grad_(False)
            if teacher is not None:
                self.teacher.load_state_dict(teacher.state_dict())
            width = self.teacher.width
        self.register_buffer("centres", torch.zeros(config.codebook_size, width))

    def input_of(self, batch: PatchBatch) -> PatchBatch:
        return super().input_of(batch) if self.config.layer is None else batch

    def forward(self, batch: PatchBatch) -> Tensor:
        return nearest_code(self.encode(batch), self.centres)

    def encode(self, batch: PatchBatch) -> Tensor:
        """Compute the vectors to cluster: (B, N, d) float32.

        Raises:
            PluginError: if the teacher has no such layer
        """
        vectors = self._vectors(batch).float()
        if self.config.layer is not None:
            vectors = super().input_of(replace(batch, patches=vectors, frames_per_patch=1)).patches
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
