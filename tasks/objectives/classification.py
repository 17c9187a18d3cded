"""Supervised classification of clips: how BEATs is fine-tuned (arXiv 2212.09058, section 4.3).

Notable choices:

- Augmentation changes the frames of the spectrogram before the front end normalises them.
- Vectors (biases, gains of norms) have no weight decay.
- A frozen encoder runs without dropout and without gradients.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...audio.augmentation import generators, mask_frequency, mask_time, mix, roll
from ...core.data import PatchBatch, SpectrogramBatch
from ...core.errors import PluginError
from ...core.interfaces import Encoder, Head, Objective, ObjectiveOutput
from ...training.objective_extras import ParameterGroup, SupportsAugment, SupportsParameterGroups
from .objective_config import ClassificationConfig


class Classification(Objective, SupportsAugment, SupportsParameterGroups):
    """Learn the classes of clips. Every clip must have a label.

    Args:
        encoder: the encoder to fine-tune
        head: scores the classes from the encoder's vectors
        multi_label: whether a clip can have several labels

    Raises:
        PluginError: if the encoder's `depths` do not contain each of its parameters exactly once
    """

    def __init__(self, config: ClassificationConfig, encoder: Encoder, head: Head, multi_label: bool) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.head = head
        self.multi_label = multi_label
        self.metric_names = ("top_class_right",) if multi_label else ("accuracy",)
        _check_depths(encoder)
        if config.freeze_encoder:
            encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.freeze_encoder:
            self.encoder.eval()
        return self

    def parts(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder, "head": self.head}

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        grouped: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
        for scale, module in self._scaled():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    grouped[scale, parameter.ndim > 1].append(parameter)
        return [ParameterGroup(parameters, scale, decayed) for (scale, decayed), parameters in grouped.items()]

    def _scaled(self) -> Iterator[tuple[float, nn.Module]]:
        """Yield every trained module with the factor of its learning rate."""
        depths = self.encoder.depths()
        for place, modules in enumerate(depths):
            for module in modules:
                yield self.config.layer_lr_decay ** (len(depths) - 1 - place), module
        yield 1.0, self.head

    def augment(self, batch: SpectrogramBatch) -> SpectrogramBatch:
        """Roll, mix and mask clips. Labels become shares of classes, (B, classes) float32."""
        config, frames, lengths = self.config.augmentation, batch.frames, batch.lengths
        targets = self._targets(batch.labels)
        random = generators(batch)
        if config.roll:
            frames = roll(frames, lengths, random)
        if config.mixup:
            mixture = mix(frames, lengths, config.mixup, random)
            frames = mixture.frames
            targets = torch.lerp(targets, targets[mixture.partner], mixture.share[:, None])
        if config.time_masks:
            frames = mask_time(frames, lengths, config.time_masks, config.time_mask_share, random)
        if config.frequency_masks:
            frames = mask_frequency(frames, lengths, config.frequency_masks, config.frequency_mask_share, random)
        return replace(batch, frames=frames, labels=targets)

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        targets = self._targets(batch.labels)
        with torch.no_grad() if self.config.freeze_encoder else nullcontext():
            encoded = self.encoder(batch)
        logits = self.head(encoded).float()  # (B, classes)
        top = targets.gather(1, logits.argmax(1, keepdim=True))
        right = (top > 0) & (top == targets.amax(1, keepdim=True))
        if self.multi_label:
            smooth = targets * (1 - self.config.label_smoothing) + self.config.label_smoothing / 2
            loss = F.binary_cross_entropy_with_logits(logits, smooth, reduction="sum")
            count = targets.numel()
        else:
            loss = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=self.config.label_smoothing)
            count = len(targets)
        return ObjectiveOutput(
            loss=loss, count=count, metrics={self.metric_names[0]: (right.sum(), torch.tensor(float(len(targets))))}
        )

    def _targets(self, labels: Tensor | None) -> Tensor:
        """Return the share of each class in a clip: (B, classes) float32."""
        if labels is None:
            raise PluginError("`classification` learns from labels, but these clips have none")
        if labels.ndim == 1:
            return F.one_hot(labels, self.head.classes).float()
        return labels


def _check_depths(encoder: Encoder) -> None:
    listed = [id(parameter) for modules in encoder.depths() for module in modules for parameter in module.parameters()]
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    wrong = [name for key, name in names.items() if listed.count(key) != 1]
    if wrong:
        raise PluginError(
            f"`{type(encoder).__name__}.depths` must contain each of the encoder's parameters once. It does not "
            f"do so for `{wrong[0]}`{f' and {len(wrong) - 1} more' if wrong[1:] else ''}"
        )
