"""What a user may set about each built-in tokenizer. Importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ..core.config import Config


class RandomProjectionConfig(Config):
    """A frozen random projection and the nearest of frozen random codes (BEATs, iteration 1; BEST-RQ)."""

    codebook_size: int = Field(default=1024, ge=2)
    """K, the number of codes."""

    codebook_dim: int = Field(default=256, ge=1)
    """Numbers per code; the projection maps a patch to as many."""

    normalize: Literal["none", "layer", "l2"] = "layer"
    """What is normalised before the nearest code is sought: `none`, as BEATs is written; `layer`: each patch to zero
    mean and unit variance, so that level and spectral tilt do not decide the label; `l2`: projection and codes to
    unit length, as in BEST-RQ (arXiv 2202.01855)."""
