"""Regression to an averaged teacher: data2vec (Baevski et al., 2022), data2vec 2.0 (2023) and EAT (Chen et al., 2024).

Notable choices:

- The encoder sees only the visible patches, as in data2vec 2.0. The teacher, a running average of its weights, sees the
  whole clip.
- Targets are outputs of whole layers, standardised over the clip for each layer. Their mean is standardised again for
  each vector. The papers use the output of the feed-forward branch.
- The predictor is a Transformer. The later papers use convolutions.
- The target of a whole clip is not standardised over the clip, because its mean would be zero. The mean of the
  encoder's outputs replaces EAT's class token.
- The teacher is updated before a step, so a checkpoint contains the teacher of its last step and a training continues
  exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ...core.data import PatchBatch
from ...core.errors import PluginError
from ...core.interfaces import Encoder, ObjectiveOutput
from ...training.objective_extras import SupportsWarnings
from ...training.weight_average import WeightAverage
from .masked import MaskedObjective
from .objective_config import AveragedTeacherConfig
from .regression import futile, guessing_cost, squared_error

_LEAST_VARIANCE = 1e-5
COLLAPSED_VARIANCE = 0.01
"""The limit of data2vec for the variance of targets."""


class AveragedTeacher(MaskedObjective, SupportsWarnings):
    """Predict the teacher's outputs at hidden patches.

    Args:
        encoder: the encoder to pre-train; it must return the outputs of its layers
    """

    config: AveragedTeacherConfig
    metric_names: Sequence[str] = ("guessing_loss",)

    def __init__(self, config: AveragedTeacherConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self.teacher = WeightAverage(encoder)
        self.to_target = nn.Linear(self.width, encoder.width)
        self.to_clip = nn.Linear(encoder.width, encoder.width) if config.clip_loss else None

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        if self.training:
            self.teacher.follow(self.encoder, self._decay(int(self.teacher.updates)))
        predicted = self.predict(batch)
        targets, of_clips = self._targets(batch)
        target = targets[predicted.hidden]  # (hidden patches, D)
        loss = squared_error(self.to_target(predicted.vectors), target).sum()
        guessing = guessing_cost(target).sum()
        if self.to_clip is not None:
            # A clip has the weight of all its hidden patches.
            weights = self.config.clip_loss * predicted.hidden.sum(1)
            found = self.to_clip(_clip_mean(predicted.encoded.sequence, predicted.encoded.valid))
            loss = loss + (weights * squared_error(found, of_clips)).sum()
            guessing = guessing + (weights * guessing_cost(of_clips)).sum()
        count = len(target)
        return ObjectiveOutput(
            loss=loss, count=max(1, count), metrics={"guessing_loss": (guessing, torch.tensor(float(count)))}
        )

    def _decay(self, updates: int) -> float:
        """Return the decay of the teacher's weights after a number of updates."""
        config = self.config
        risen = min(1.0, updates / config.decay_steps) if config.decay_steps else 1.0
        return config.decay + (config.final_decay - config.decay) * risen

    @torch.no_grad()
    def _targets(self, batch: PatchBatch) -> tuple[Tensor, Tensor]:
        """Compute the targets of patches, (B, N, D), and of clips, (B, D).

        Raises:
            PluginError: if the encoder returns too few layers
        """
        outputs = self.teacher(batch).layers[1:]
        count = self.config.top_layers or len(outputs)
        if not 0 < count <= len(outputs):
            raise PluginError(
                f"`averaged_teacher` needs the outputs of {max(1, count)} layers, but the encoder returns "
                f"{len(outputs)}: lower `top_layers`, or let the encoder return the outputs of its layers"
            )
        outputs = [output.float() for output in outputs[-count:]]
        of_patches = torch.stack([_standardised(output, batch.valid) for output in outputs]).mean(0)
        of_clips = torch.stack([_clip_mean(output, batch.valid) for output in outputs]).mean(0)
        return layer_norm(of_patches, of_patches.shape[-1:]), layer_norm(of_clips, of_clips.shape[-1:])

    def warnings(self, metrics: Mapping[str, float], progress: float) -> Sequence[str]:
        if metrics["guessing_loss"] < COLLAPSED_VARIANCE:
            return [
                f"the targets have collapsed: their variance is {metrics['guessing_loss']:.4f}, so the teacher's "
                "outputs are nearly the same for all patches; try a lower lr, a longer warm-up or a higher `decay`"
            ]
        return futile(metrics, progress)


def _clip_mean(vectors: Tensor, valid: Tensor) -> Tensor:
    """Average over the real patches of each clip: (B, N, D) to (B, D)."""
    return vectors.masked_fill(~valid[..., None], 0.0).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)


def _standardised(vectors: Tensor, valid: Tensor) -> Tensor:
    """Standardise each number over the real patches of a clip: (B, N, D) to (B, N, D)."""
    centred = vectors - _clip_mean(vectors, valid)[:, None]
    variance = _clip_mean(centred.square(), valid)[:, None]
    return centred * (variance + _LEAST_VARIANCE).rsqrt()
