"""Averages of weights: the formula, and what is saved of them. `test_engine.py` checks that they continue exactly."""

from __future__ import annotations

import torch
from torch import nn

from ossicle.core.data import Grid, PatchBatch
from ossicle.core.interfaces import Objective, ObjectiveOutput
from ossicle.encoders.encoder_config import PlainVitConfig
from ossicle.encoders.vit import PlainVit
from ossicle.training import objective_extras
from ossicle.training.weight_average import average_weights


class Sum(Objective):
    """The sum of an encoder's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = PlainVit(PlainVitConfig(layers=1, width=8, heads=2, feed_forward=8), patch_dim=4)

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        return ObjectiveOutput(self.encoder(batch).sequence.square().sum(), 1)

    def parts(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder}


def batch() -> PatchBatch:
    return PatchBatch(torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.bool), Grid(3, 2))


def test_the_average_follows_the_weights_before_each_step() -> None:
    objective = Sum()
    average = average_weights(objective, objective.encoder, 0.5)
    expected = objective.encoder.embed.weight.detach().clone()
    optimizer = torch.optim.SGD(objective.parameters(), lr=1e-3)
    for update in range(12):
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * objective.encoder.embed.weight.detach()
        objective(batch()).loss.backward()
        torch.testing.assert_close(average.encoder.embed.weight, expected)
        optimizer.step()
        optimizer.zero_grad()
    assert not torch.equal(average.encoder.embed.weight, objective.encoder.embed.weight)


def test_the_average_is_kept_in_checkpoints_and_not_trained() -> None:
    objective = Sum()
    average_weights(objective, objective.encoder, 0.9)
    assert "weight_average.encoder.embed.weight" in objective.state_dict()
    assert {name.partition(".")[0] for name, _ in objective.named_parameters()} == {"encoder"}
    assert all(next(shard.parameters(), None) is not None for shard in objective_extras.shards(objective))


def test_evaluation_does_not_change_the_average() -> None:
    objective = Sum()
    average = average_weights(objective, objective.encoder, 0.9)
    objective.eval()
    objective(batch())
    assert int(average.updates) == 0
