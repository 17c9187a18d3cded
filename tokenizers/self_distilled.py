"""BEATs' self-distilled tokenizer (arXiv 2212.09058, section 3.2.2): an encoder, a projection and a codebook.

Notable choices: the first k-means runs over the first batches as a step of its own before training; the codebook lives
in fp32 whatever the precision of the encoder.
"""

from __future__ import annotations

from ..core.choices import PartChoice
from .codebook import EmaCodebook
from .distilled import Distilled
from .tokenizer_config import SelfDistilledConfig


class SelfDistilled(Distilled):
    """Label a patch by the code that lies nearest to its encoded and projected vector.

    Args:
        patch_dim, bands, encoder_choice: as in `Distilled`
    """

    codebook: EmaCodebook

    def __init__(self, config: SelfDistilledConfig, patch_dim: int, bands: int, encoder_choice: PartChoice) -> None:
        size, dim = config.codebook_size, config.codebook_dim
        super().__init__(config, patch_dim, bands, encoder_choice, codebook_size=size, code_dim=dim)
        self.codebook = EmaCodebook(
            size, dim, decay=config.decay, revive_below=config.revive_below, kmeans_rounds=config.kmeans_rounds
        )
