"""Masked reconstruction of the spectrogram: MAE (He et al., 2022) and Audio-MAE (Huang et al., 2022).

Notable choices:

- The loss covers only hidden patches.
- By default each target patch is normalised to zero mean and unit variance, as in Audio-MAE.
- The decoder is the predictor of all masked objectives. It attends globally, whereas that of Audio-MAE attends in
  windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...core.data import PatchBatch
from ...core.interfaces import Encoder, ObjectiveOutput
from ...training.objective_extras import SupportsWarnings
from .masked import MaskedObjective
from .objective_config import ReconstructionConfig
from .regression import futile, guessing_cost, squared_error

_LEAST_VARIANCE = 1e-6
"""Added to a patch's variance, as in MAE's code."""


class Reconstruction(MaskedObjective, SupportsWarnings):
    """Reconstruct hidden patches from the visible ones.

    Args:
        encoder: the encoder to pre-train
        patch_dim: numbers per patch
    """

    config: ReconstructionConfig
    metric_names: Sequence[str] = ("guessing_loss",)

    def __init__(self, config: ReconstructionConfig, encoder: Encoder, patch_dim: int) -> None:
        super().__init__(config, encoder)
        self.to_patch = nn.Linear(self.width, patch_dim)

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        predicted = self.predict(batch)
        target = self._targets(batch)[predicted.hidden]  # (hidden patches, P)
        count = len(target)
        return ObjectiveOutput(
            loss=squared_error(self.to_patch(predicted.vectors), target).sum(),
            count=max(1, count),
            metrics={"guessing_loss": (guessing_cost(target).sum(), torch.tensor(float(count)))},
        )

    def _targets(self, batch: PatchBatch) -> Tensor:
        patches = batch.patches.float()
        if not self.config.normalise_targets:
            return patches
        variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return (patches - mean) / (variance + _LEAST_VARIANCE).sqrt()

    def warnings(self, metrics: Mapping[str, float], progress: float) -> Sequence[str]:
        return futile(metrics, progress)
