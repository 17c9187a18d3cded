"""Configuration of Kaldi filter banks.

Importable without torch, so that an experiment can be checked before large libraries are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from ..core.catalog import Catalog
from ..core.config import Config

AUDIOSET_MEAN: Final = 15.41663
"""Mean of AudioSet's log mel energies (BEATs, released code)."""

AUDIOSET_STD: Final = 6.55582
"""Standard deviation of AudioSet's log mel energies. The normalisation divides by twice this value."""

EXTRACTION_ONLY: Final = (
    "`padding: released` needs whole padded waveforms, so it works only for feature extraction, not in experiments: "
    "set `padding: exact`"
)


class KaldiFbankConfig(Config):
    """Kaldi log mel filter banks at 16 kHz, cut into patches (BEATs, section 4.2)."""

    mel_bins: int = Field(default=128, ge=1)
    """Number of mel filters between 20 Hz and 8 kHz."""

    patch_frames: int = Field(default=16, ge=1)
    """Frames per patch. A frame is 10 ms."""

    patch_bins: int = Field(default=16, ge=1)
    """Mel bins per patch. Must divide `mel_bins`."""

    mean: float | None = None
    """Mean that is subtracted from every value. Measured on the corpus by default. AudioSet's is 15.41663."""

    std: float | None = Field(default=None, gt=0)
    """Standard deviation. Every value is divided by twice this. Measured on the corpus by default. AudioSet's is
    6.55582."""

    per_bin: bool = False
    """Whether to measure mean and standard deviation of every mel bin, instead of one pair over all bins."""

    padding: Literal["exact", "released"] = "exact"
    """Rule for which patches are real. `exact` gives a clip the same patches alone and in a batch. `released` follows
    the released code, whose masks include some padding. The rules agree on clips of equal length."""

    @property
    def sample_rate(self) -> int:
        """Rate of the waveforms in Hz."""
        return 16000

    @property
    def bands(self) -> int:
        """Patches per time column."""
        return self.mel_bins // self.patch_bins

    @property
    def patch_dim(self) -> int:
        """Numbers per patch."""
        return self.patch_frames * self.patch_bins

    def compatibility_facts(self, catalog: Catalog) -> Mapping[str, object]:
        return {"patch_dim": self.patch_dim, "bands": self.bands, "front_end": self}

    def check_compatibility(self, context: Mapping[str, object]) -> list[str]:
        return [EXTRACTION_ONLY] if self.padding == "released" else []

    @model_validator(mode="after")
    def _check_patches(self) -> Self:
        if self.mel_bins % self.patch_bins:
            divisors = ", ".join(str(n) for n in range(1, self.mel_bins + 1) if self.mel_bins % n == 0)
            raise ValueError(
                f"`patch_bins` must divide `mel_bins`, but {self.patch_bins} does not divide {self.mel_bins}: "
                f"set `patch_bins` to one of {divisors}, or change `mel_bins`"
            )
        if self.padding == "released" and self.bands > self.patch_frames:
            raise ValueError(
                f"`padding: released` allows at most `patch_frames` ({self.patch_frames}) bands, but there are "
                f"{self.bands}: set `padding: exact`"
            )
        return self
