"""BEATs' self-distilled tokenizer (arXiv 2212.09058, section 3.2.2): an encoder, a projection and a codebook.

Notable choices:

- k-means runs on the first batches before training, not inside `forward`, so an interrupted run continues exactly.
- The codebook is in fp32 at any precision of the encoder.
"""

from __future__ import annotations

from ..core.choices import PartChoice
from .codebook import EmaCodebook
from .distilled import Distilled
from .tokenizer_config import SelfDistilledConfig


class SelfDistilled(Distilled):
    """Give a patch the code nearest to its encoded and projected vector.

    Args:
        patch_dim, bands, encoder_choice: as in `Distilled`
    """

    codebook: EmaCodebook

    def __init__(self, config: SelfDistilledConfig, patch_dim: int, bands: int, encoder_choice: PartChoice) -> None:
        size, dim = config.codebook_size, config.codebook_dim
        super().__init__(config, patch_dim, bands, encoder_choice, codebook_size=size, code_dim=dim)
        self.codebook = EmaCodebook(
            size,
            dim,
            decay=config.decay,
            revive_below=config.revive_below,
            usage_decay=config.usage_decay,
            kmeans_rounds=config.kmeans_rounds,
        )
