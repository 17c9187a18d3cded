"""Exponential moving averages of weights: of a teacher, or of the encoder that pre-training returns."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..core.data import Encoded, PatchBatch
from ..core.interfaces import Encoder, Objective


class WeightAverage(nn.Module):
    """An encoder whose weights are an exponential moving average of another's.

    All of its tensors are buffers and are not trained.

    Attributes:
        updates: number of updates
    """

    updates: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).eval()
        for module in self.encoder.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach().clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, encoder: Encoder, decay: float) -> None:
        """Update the running average of the weights with `decay`. Buffers are copied."""
        own = dict(self.encoder.named_buffers())
        for name, parameter in encoder.named_parameters(remove_duplicate=False):
            own[name].lerp_(_whole(parameter), 1 - decay)
        for name, buffer in encoder.named_buffers():
            own[name].copy_(buffer)
        self.updates += 1

    def train(self, mode: bool = True) -> WeightAverage:
        """Stay in evaluation mode, because the teacher has no dropout."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def forward(self, batch: PatchBatch) -> Encoded:
        """Encode whole clips, with every layer's output."""
        encoded: Encoded = self.encoder(batch, layers=True)
        return encoded


def _whole(parameter: Tensor) -> Tensor:
    """Return the local tensor of a parameter, also if FSDP2 has split it."""
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def average_weights(objective: Objective, encoder: Encoder, decay: float) -> WeightAverage:
    """Average the weights of an encoder while its objective trains, before each step.

    The average becomes a part of the objective, so checkpoints contain it.

    Args:
        decay: share of the old average in an update; early updates have a smaller one, (1 + n) / (10 + n) after n
            updates, so that the initial weights are soon forgotten
    """
    average = WeightAverage(encoder)
    objective.add_module("weight_average", average)

    def follow(*_: object) -> None:
        if objective.training:
            updates = int(average.updates)
            average.follow(encoder, min(decay, (1 + updates) / (10 + updates)))

    objective.register_forward_pre_hook(follow)
    return average
