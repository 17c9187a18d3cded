"""BEATs' self-distilled tokenizer (arXiv 2212.09058, section 3.2.2): an encoder, a projection and a codebook.

Notable choices: the first k-means runs over the first batches as a step of its own before training; the codebook lives
in fp32 whatever the precision of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core.config import PartChoice
from ..core.data import PatchBatch
from ..core.interfaces import Encoder
from ..core.parts import build, choice_of
from .codebook import EmaCodebook
from .quantising import Quantised, QuantisingTokenizer
from .settings import SelfDistilledConfig


class SelfDistilled(QuantisingTokenizer):
    """Label a patch by the code that lies nearest to its encoded and projected vector.

    Args:
        patch_dim: P, numbers per patch
        bands: patches per time column
        encoder_choice: the encoder to use where the configuration names none
    """

    def __init__(self, config: SelfDistilledConfig, patch_dim: int, bands: int, encoder_choice: PartChoice) -> None:
        super().__init__(config.codebook_size)
        self.config = config
        self.code_dim = config.codebook_dim
        # Another seed than that of the encoder which this tokenizer is to teach.
        self.encoder = build(
            config.encoder or encoder_choice, Encoder, seed=self.seed + 1, patch_dim=patch_dim, bands=bands
        )
        if config.encoder is not None:
            self.config = config.model_copy(update={"encoder": choice_of(self.encoder)})
        width = self.encoder.width
        self.project = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, config.codebook_dim))
        self.codebook = EmaCodebook(
            config.codebook_size, config.codebook_dim, decay=config.decay, revive_below=config.revive_below
        )

    def forward(self, batch: PatchBatch) -> Tensor:
        return self.codebook.nearest(self.encode(batch))

    def encode(self, batch: PatchBatch) -> Tensor:
        """Give the unit vector of each patch, before it is coded: (B, N, d) float32."""
        return normalize(self.project(self.encoder(batch).sequence).float(), dim=-1)

    def quantise(self, batch: PatchBatch) -> Quantised:
        vectors = self.encode(batch)
        with torch.autocast(vectors.device.type, enabled=False):
            ids = self.codebook.nearest(vectors)
            codes = self.codebook.codes[ids]  # (B, N, d), as they are before this batch moves them
            if self.training:
                self.codebook.update(vectors[batch.valid], ids[batch.valid])
        commitment = (codes - vectors).square().mean(-1)
        return Quantised(vectors + (codes - vectors).detach(), ids, commitment)

    @torch.no_grad()
    def start(self, batches: Iterable[PatchBatch]) -> None:
        """Run k-means on the first vectors, some dozens for each code."""
        wanted = self.config.kmeans_vectors * self.codebook_size
        found: list[Tensor] = []
        for batch in batches:
            found.append(self.encode(batch)[batch.valid])
            if sum(map(len, found)) >= wanted:
                break
        self.codebook.start(torch.cat(found)[:wanted], rounds=self.config.kmeans_rounds)
