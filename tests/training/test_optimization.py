"""Optimizers and learning-rate schedules, compared with their formulas."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from ossicle.core.choices import PartChoice
from ossicle.core.data import PatchBatch
from ossicle.core.experiment import TrainingConfig
from ossicle.core.interfaces import Objective, ObjectiveOutput
from ossicle.core.plugin_loading import load_plugins
from ossicle.encoders.encoder_config import PlainVitConfig
from ossicle.encoders.layers import TransformerStack
from ossicle.training.optimization import build_lr_schedule, build_optimizer

STEPS, WARMUP, PEAK = 20, 4, 0.5


class Model(Objective):
    """A small Transformer with a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stack = TransformerStack(PlainVitConfig(layers=1, width=16, heads=2, feed_forward=32).stack)
        self.classify = nn.Linear(16, 3)

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        raise NotImplementedError

    def parts(self) -> dict[str, nn.Module]:
        return {}

    def loss(self, inputs: torch.Tensor) -> torch.Tensor:
        sequence, _ = self.stack(inputs, valid=torch.ones(inputs.shape[:2], dtype=torch.bool))
        return (self.classify(sequence) - 1.0).square().mean()


def settings(**options: Any) -> TrainingConfig:
    catalog = load_plugins().catalog
    chosen: dict[str, Any] = {}
    for kind, stated in options.items():
        name, config = stated if isinstance(stated, tuple) else (stated, {})
        chosen[kind] = PartChoice.of(catalog.get(kind, name), config, catalog=catalog)
    return TrainingConfig(steps=STEPS, warmup_steps=WARMUP, lr=PEAK, **chosen)


def rates(**options: Any) -> list[float]:
    """The learning rate of every step."""
    stated = settings(**options)
    optimizer = build_optimizer(Model(), stated)
    schedule = build_lr_schedule(optimizer, stated)
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


LINEAR = [PEAK * min(step / WARMUP, (STEPS - step) / (STEPS - WARMUP)) for step in range(STEPS)]


def test_the_default_rises_and_falls_linearly() -> None:
    assert rates() == pytest.approx(LINEAR)
    assert rates(lr_schedule="polynomial") == pytest.approx(LINEAR)


def test_a_polynomial_of_degree_two() -> None:
    falling = [PEAK * ((STEPS - step) / (STEPS - WARMUP)) ** 2 for step in range(WARMUP, STEPS)]
    assert rates(lr_schedule=("polynomial", {"power": 2.0})) == pytest.approx([*LINEAR[:WARMUP], *falling])


def test_cosine() -> None:
    found = rates(lr_schedule=("cosine", {"final_share": 0.1}))
    assert found[: WARMUP + 1] == pytest.approx(LINEAR[: WARMUP + 1])
    span = STEPS - WARMUP + 1
    falling = [PEAK * (0.1 + 0.45 * (1 + math.cos(math.pi * step / span))) for step in range(STEPS - WARMUP)]
    assert found[WARMUP:] == pytest.approx(falling)


def test_warmup_stable_decay() -> None:
    found = rates(lr_schedule=("warmup_stable_decay", {"decay_share": 0.25}))
    assert found == pytest.approx([*LINEAR[:WARMUP], *[PEAK] * 11, *[PEAK * left / 5 for left in (5, 4, 3, 2, 1)]])
    assert rates(lr_schedule=("warmup_stable_decay", {"decay_share": 0.0}))[-1] == PEAK


def test_adamw_takes_its_options() -> None:
    optimizer = build_optimizer(Model(), settings(optimizer=("adamw", {"betas": [0.8, 0.9], "weight_decay": 0.3})))
    (group,) = optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.8, 0.9), 0.3, PEAK)


def test_muon_trains_the_matrices_of_layers_and_adamw_the_rest() -> None:
    model = Model()
    optimizer = build_optimizer(model, settings(optimizer="muon"))
    matrices, others = (set(map(id, group["params"])) for group in optimizer.param_groups)
    expected = {id(one) for one in model.stack.layers.parameters() if one.dim() == 2}
    assert matrices == expected
    assert others == {id(one) for one in model.parameters()} - expected
    assert id(model.classify.weight) in others


def test_muon_learns_and_continues_exactly() -> None:
    inputs = torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(1))

    def steps(model: Model, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
        losses = []
        for _ in range(count):
            loss = model.loss(inputs)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    stated = settings(optimizer="muon").model_copy(update={"lr": 0.01})
    model = Model()
    optimizer = build_optimizer(model, stated)
    first = steps(model, optimizer, 5)
    resumed = Model()
    resumed.load_state_dict(model.state_dict())
    other = build_optimizer(resumed, stated)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    expected = steps(model, optimizer, 5)
    assert steps(resumed, other, 5) == expected
    assert expected[-1] < 0.9 * first[0]
