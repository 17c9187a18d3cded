"""What a user may set about augmentation. Importable without torch."""

from __future__ import annotations

from pydantic import Field

from ..core.config import Config


class AugmentationConfig(Config):
    """How training clips are changed each time they come; nothing is changed by default."""

    roll: bool = False
    """Turn each clip in time by a random part of its length; what leaves at its end comes back at its start."""

    mixup: float = Field(default=0.0, ge=0)
    """Mix each clip, and its labels, with another clip of its batch in shares drawn from Beta(this, this)
    (Zhang et al., 2018); 0 is off."""

    time_masks: int = Field(default=0, ge=0)
    """Stretches of time that are masked in each clip (SpecAugment, Park et al., 2019)."""

    time_mask_share: float = Field(default=0.2, gt=0, le=1)
    """Longest of these stretches, as a share of the clip."""

    frequency_masks: int = Field(default=0, ge=0)
    """Ranges of frequency that are masked in each clip."""

    frequency_mask_share: float = Field(default=0.2, gt=0, le=1)
    """Widest of these ranges, as a share of the mel bins."""
