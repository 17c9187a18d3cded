"""Optimizers and learning-rate schedules: two kinds of parts.

Notable choices:

- The schedules are those of fairseq2 and torch, so a continued training restores their state like any other.
- The warm-up belongs to every schedule, because pre-norm and post-norm Transformers both need one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from fairseq2.optim.lr_schedulers import CosineAnnealingLR, PolynomialDecayLR
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ..core.build import build
from ..core.experiment import TrainingConfig
from ..core.interfaces import LayeredModule, LrSchedule, Objective, Optimizer
from .objective_extras import parameter_groups
from .optimization_config import (
    AdamWConfig,
    CosineConfig,
    MuonConfig,
    PolynomialConfig,
    WarmupStableDecayConfig,
)


def build_optimizer(objective: Objective, settings: TrainingConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a training, AdamW by default, at its peak learning rates."""
    choice = settings.optimizer
    builder = build(choice, Optimizer) if choice else AdamW(AdamWConfig())
    return builder.build(objective, lr=settings.lr)


def build_lr_schedule(optimizer: torch.optim.Optimizer, settings: TrainingConfig) -> LRScheduler:
    """Build the learning-rate schedule of a training, a linear decay by default."""
    choice = settings.lr_schedule
    schedule = build(choice, LrSchedule) if choice else Polynomial(PolynomialConfig())
    return schedule.build(optimizer, steps=settings.steps, warmup_steps=settings.warmup_steps)


class AdamW(Optimizer):
    """Builds AdamW over the parameter groups of the objective."""

    def __init__(self, config: AdamWConfig) -> None:
        self.config = config

    def build(self, objective: Objective, *, lr: float) -> torch.optim.Optimizer:
        return _adamw(self._groups(objective, lr), self.config, lr)

    def _groups(self, objective: Objective, lr: float) -> list[dict[str, Any]]:
        return [
            {
                "params": list(group.parameters),
                "lr": lr * group.lr_scale,
                "weight_decay": self.config.weight_decay if group.decayed else 0.0,
            }
            for group in parameter_groups(objective)
        ]


def _adamw(groups: list[dict[str, Any]], config: AdamWConfig, lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=lr, betas=config.betas, fused=True)


class Muon(AdamW):
    """Builds Muon for the matrices of layers, and AdamW for the rest."""

    config: MuonConfig

    def build(self, objective: Objective, *, lr: float) -> torch.optim.Optimizer:
        matrices = _matrices_of_layers(objective)
        split: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for group in self._groups(objective, lr):
            for is_matrix, chosen in split.items():
                if parameters := [one for one in group["params"] if (one in matrices) is is_matrix]:
                    chosen.append({**group, "params": parameters})
        optimizers: list[torch.optim.Optimizer] = []
        if split[True]:
            optimizers.append(
                torch.optim.Muon(split[True], lr=lr, momentum=self.config.momentum, adjust_lr_fn="match_rms_adamw")
            )
        if split[False]:
            optimizers.append(_adamw(split[False], self.config, lr))
        return CombinedOptimizer(*optimizers)


def _matrices_of_layers(objective: Objective) -> set[Tensor]:
    stacks = (module for module in objective.modules() if isinstance(module, LayeredModule))
    return {one for stack in stacks for one in stack.layers.parameters() if one.dim() == 2}


class CombinedOptimizer(torch.optim.Optimizer):
    """Several optimizers of different parameters as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self._optimizers = optimizers
        # Schedules and fairseq2 change the groups, so they must be those of the optimizers.
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with every optimizer."""
        loss = closure() if closure is not None else None
        for optimizer in self._optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the optimizers, in order."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for optimizer, state in zip(self._optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]


class Polynomial(LrSchedule):
    """Decays by a power."""

    def __init__(self, config: PolynomialConfig) -> None:
        self.config = config

    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, warmup_steps: int) -> LRScheduler:
        return PolynomialDecayLR(optimizer, steps, warmup_steps, power=self.config.power)


class Cosine(LrSchedule):
    """Decays along half a cosine."""

    def __init__(self, config: CosineConfig) -> None:
        self.config = config

    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, warmup_steps: int) -> LRScheduler:
        final = [group["lr"] * self.config.final_share for group in optimizer.param_groups]
        return CosineAnnealingLR(optimizer, steps - warmup_steps + 1, warmup_steps, final_lr=final)


class WarmupStableDecay(LrSchedule):
    """Keeps the peak, then decays linearly."""

    def __init__(self, config: WarmupStableDecayConfig) -> None:
        self.config = config

    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, warmup_steps: int) -> LRScheduler:
        decay_steps = self.config.decay_share * steps

        def factor(step: int) -> float:
            risen = step / warmup_steps if step < warmup_steps else 1.0
            return min(risen, (steps - step) / decay_steps) if decay_steps else risen

        return cast(LRScheduler, LambdaLR(optimizer, lambda step: max(0.0, factor(step))))
