"""Configurations of optimizers and learning-rate schedules, importable without torch."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from ..core.config import Config

Beta: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class AdamWConfig(Config):
    """AdamW (Loshchilov & Hutter, 2019)."""

    betas: tuple[Beta, Beta] = (0.9, 0.98)
    """Decay rates of the running means of the gradient and of its square."""

    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay, decoupled from the gradient and multiplied by the learning rate."""


class MuonConfig(AdamWConfig):
    """Muon (Jordan et al., 2024) for the matrices of Transformer layers, and AdamW for all other weights.

    Updates are scaled to the root mean square of AdamW's (Liu et al., 2025), so both use the same learning rate. torch
    orthogonalises in bf16, which is slow on processors without bf16 arithmetic.
    """

    momentum: Beta = 0.95
    """Decay rate of Muon's running mean of the gradient."""


class PolynomialConfig(Config):
    """Decay from the peak to 0 by a power of the remaining share of steps."""

    power: float = Field(default=1.0, gt=0)
    """The power. 1 is a linear decay."""


class CosineConfig(Config):
    """Decay from the peak along half a cosine (Loshchilov & Hutter, 2017)."""

    final_share: float = Field(default=0.0, ge=0, le=1)
    """The last learning rate as a share of the peak."""


class WarmupStableDecayConfig(Config):
    """Keep the peak, then decay linearly to 0 (WSD; Hu et al., 2024)."""

    decay_share: float = Field(default=0.2, ge=0, le=1)
    """Share of all steps over which the learning rate decays. With 0 it stays at the peak."""
