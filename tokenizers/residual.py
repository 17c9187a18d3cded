"""Residual quantisation: each codebook quantises the residual of those before it (SoundStream, arXiv 2107.03312).

Notable choices:

- The first codebook is that of BEATs, on the unit sphere, so the first stream equals the self-distilled tokenizer. The
  others are in Euclidean space.
- All codebooks are always used. SoundStream drops the last ones to vary the bit rate, which targets do not need.
- MERT uses such streams as targets (arXiv 2306.00107).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..core.choices import PartChoice
from .codebook import EmaCodebook
from .distilled import Distilled
from .quantiser import Quantised, Quantiser, straight_through
from .tokenizer_config import ResidualDistilledConfig


class ResidualCodebooks(Quantiser):
    """G codebooks whose codes add up to the vector.

    Args:
        streams: G, the number of codebooks
        size, dim, decay, revive_below, usage_decay, kmeans_rounds: of each, as in `EmaCodebook`
    """

    def __init__(
        self,
        streams: int,
        size: int,
        dim: int,
        *,
        decay: float = 0.99,
        revive_below: float = 0.0,
        usage_decay: float | None = None,
        kmeans_rounds: int = 10,
    ) -> None:
        super().__init__()
        self.size, self.streams, self.dim = size, streams, dim
        self.codebooks = nn.ModuleList(
            EmaCodebook(
                size,
                dim,
                decay=decay,
                revive_below=revive_below,
                usage_decay=usage_decay,
                spherical=number == 0,
                kmeans_rounds=kmeans_rounds,
            )
            for number in range(streams)
        )

    def to_code_space(self, vectors: Tensor) -> Tensor:
        first: EmaCodebook = next(self._each())
        return first.to_code_space(vectors)

    def nearest(self, points: Tensor) -> Tensor:
        quantised: Quantised = self(points)
        return quantised.ids

    def forward(self, points: Tensor) -> Quantised:
        """Quantise points of the code space. The commitment is the mean of the squared residuals over the codebooks."""
        codes, ids, left_over = torch.zeros_like(points), [], []
        for codebook in self._each():
            found = codebook.nearest(points - codes)
            codes = codes + codebook.codes[found]
            ids.append(found)
            left_over.append((codes - points).square().mean(-1))
        return Quantised(straight_through(points, codes), torch.stack(ids, dim=-1), torch.stack(left_over).mean(0))

    @torch.no_grad()
    def update(self, points: Tensor, ids: Tensor) -> None:
        for codebook, found in zip(self._each(), ids.unbind(-1), strict=True):
            codes = codebook.codes[found]
            codebook.update(points, found)
            points = points - codes

    @torch.no_grad()
    def start(self, vectors: Tensor, *, per_batch: float | None = None) -> None:
        left_over = self.to_code_space(vectors)
        for codebook in self._each():
            codebook.start(left_over, per_batch=per_batch)
            left_over = left_over - codebook.codes[codebook.nearest(left_over)]

    def _each(self) -> Iterator[EmaCodebook]:
        for codebook in self.codebooks:
            assert isinstance(codebook, EmaCodebook)
            yield codebook


class ResidualDistilled(Distilled):
    """Give a patch the codes that add up to its encoded and projected vector.

    Args:
        patch_dim, bands, encoder_choice: as in `Distilled`
    """

    def __init__(self, config: ResidualDistilledConfig, patch_dim: int, bands: int, encoder_choice: PartChoice) -> None:
        streams, size, dim = config.codebooks, config.codebook_size, config.codebook_dim
        super().__init__(config, patch_dim, bands, encoder_choice, codebook_size=size, code_dim=dim, streams=streams)
        self.codebook = ResidualCodebooks(
            streams,
            size,
            dim,
            decay=config.decay,
            revive_below=config.revive_below,
            usage_decay=config.usage_decay,
            kmeans_rounds=config.kmeans_rounds,
        )
