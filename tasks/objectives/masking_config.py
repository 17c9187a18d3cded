"""Configurations of the built-in maskings, importable without torch.

The `mask_ratio` of the objective sets the share of hidden patches.
"""

from __future__ import annotations

from pydantic import Field

from ...core.config import Config


class UniformMaskingConfig(Config):
    """Hide patches one by one, each as likely as any other (MAE, He et al., 2022; BEATs, section 3.3)."""


class BlockMaskingConfig(Config):
    """Hide blocks of neighbouring patches (BEiT, Bao et al., 2022)."""

    columns: int = Field(default=5, ge=1)
    """Time columns of a block. Blocks are cut at the edges of the grid, and the last block of a clip to match the
    share."""

    bands: int = Field(default=5, ge=1)
    """Frequency bands of a block."""


class InverseBlockMaskingConfig(BlockMaskingConfig):
    """Show blocks of neighbouring patches and hide the rest (data2vec 2.0, Baevski et al., 2023; EAT)."""


class TimeMaskingConfig(Config):
    """Hide all bands of some time columns (Audio-MAE, Huang et al., 2022; SpecAugment, Park et al., 2019)."""

    columns: int = Field(default=1, ge=1)
    """Neighbouring time columns that are hidden together. The last ones of a clip are cut to match the share."""


class FrequencyMaskingConfig(Config):
    """Hide some frequency bands for the whole clip (Audio-MAE, Huang et al., 2022; SpecAugment, Park et al., 2019)."""

    bands: int = Field(default=1, ge=1)
    """Neighbouring bands that are hidden together. The last ones of a clip are cut to match the share."""
