"""Configuration of augmentation, importable without torch."""

from __future__ import annotations

from pydantic import Field

from ..core.config import Config


class AugmentationConfig(Config):
    """Random changes to training clips, drawn again for every use of a clip. Nothing is changed by default."""

    roll: bool = False
    """Roll each clip in time by a random part of its length. Frames that leave at the end return at the start."""

    mixup: float = Field(default=0.0, ge=0)
    """Mix each clip and its labels with another clip of its batch (Zhang et al., 2018). The shares are drawn from
    Beta(this, this). 0 disables mixup."""

    time_masks: int = Field(default=0, ge=0)
    """Number of masked stretches of time in each clip (SpecAugment, Park et al., 2019)."""

    time_mask_share: float = Field(default=0.2, gt=0, le=1)
    """Maximum length of these stretches, as a share of the clip."""

    frequency_masks: int = Field(default=0, ge=0)
    """Number of masked frequency ranges in each clip."""

    frequency_mask_share: float = Field(default=0.2, gt=0, le=1)
    """Maximum width of these ranges, as a share of the mel bins."""
