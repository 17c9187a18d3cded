"""The base of distilled tokenizers: an encoder and a projection before a quantiser (BEATs, section 3.2.2).

Notable choices:

- The quantiser works in fp32 at any precision of the encoder, because rounding would change tokens.
- The quantiser learns only from real patches, so padding does not move the codes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..core.build import build
from ..core.choices import PartChoice
from ..core.data import PatchBatch
from ..core.interfaces import Encoder
from ..core.parts import choice_of
from .quantiser import Quantised, Quantiser, QuantisingTokenizer
from .tokenizer_config import DistilledConfig


class Distilled(QuantisingTokenizer):
    """Give a patch the code of its encoded and projected vector.

    Args:
        patch_dim: P, numbers per patch
        bands: patches per time column
        encoder_choice: the encoder to use if the configuration names none
        codebook_size, streams: as in `Tokenizer`
        code_dim: d, numbers per code

    Attributes:
        codebook: the quantiser; subclasses set it
    """

    codebook: Quantiser

    def __init__(
        self,
        config: DistilledConfig,
        patch_dim: int,
        bands: int,
        encoder_choice: PartChoice,
        *,
        codebook_size: int,
        code_dim: int,
        streams: int = 1,
    ) -> None:
        super().__init__(codebook_size, streams)
        self.config = config
        self.code_dim = code_dim
        # A different seed from that of the encoder that will learn from this tokenizer.
        self.encoder = build(
            config.encoder or encoder_choice, Encoder, seed=self.seed + 1, patch_dim=patch_dim, bands=bands
        )
        if config.encoder is not None:
            self.config = config.model_copy(update={"encoder": choice_of(self.encoder)})
        width = self.encoder.width
        self.project = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, code_dim))

    def forward(self, batch: PatchBatch) -> Tensor:
        return self.codebook.nearest(self.encode(batch))

    def encode(self, batch: PatchBatch) -> Tensor:
        """Map each patch to a point of the code space, before quantisation: (B, N, d) float32."""
        return self.codebook.to_code_space(self._project(batch))

    def _project(self, batch: PatchBatch) -> Tensor:
        projected: Tensor = self.project(self.encoder(batch).sequence)
        return projected.float()

    def quantise(self, batch: PatchBatch) -> Quantised:
        vectors = self.encode(batch)
        with torch.autocast(vectors.device.type, enabled=False):
            quantised: Quantised = self.codebook(vectors)
            if self.training:
                self.codebook.update(vectors[batch.valid].detach(), quantised.ids[batch.valid])
        return quantised

    @torch.no_grad()
    def start(self, batches: Iterable[PatchBatch]) -> None:
        """Fit the codebook to the first vectors."""
        wanted = self.config.start_vectors
        found: list[Tensor] = []
        for batch in batches:
            found.append(self._project(batch)[batch.valid])
            if sum(map(len, found)) >= wanted:
                break
        self.codebook.start(torch.cat(found)[:wanted], per_batch=sum(map(len, found)) / len(found))
