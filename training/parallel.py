"""Distribute an objective over the processes that train together, and collect it again.

Notable choices:

- DDP keeps the whole objective on every rank.
- FSDP2 shards parameters, gradients and optimiser state, and changes the modules in place. torch cannot undo this, so
  the original state of the modules is stored before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import soundfile  # noqa: F401  # isort: skip  # fairseq2 takes its libsndfile, so it must come first
import torch
from fairseq2.gang import Gangs, ProcessGroupGang, create_fake_gangs, create_fsdp_gangs, create_parallel_gangs
from fairseq2.nn.ddp import to_ddp
from fairseq2.nn.fsdp import FSDP2Module, FSDPWrapper, to_fsdp2
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.utils._pytree import register_dataclass

from ..core.distributed import world_size
from ..core.interfaces import Objective, ObjectiveOutput
from .objective_extras import shards

Parallel = Literal["ddp", "fsdp"]

# FSDP2 attaches hooks to the tensors in the output of a module.
register_dataclass(ObjectiveOutput)


class _BorrowedGangs(Gangs):
    """Gangs that remain open after a training, although fairseq2's trainer closes the gangs that it receives."""

    def close(self) -> None:
        pass


def training_gangs(device: torch.device, parallel: Parallel) -> Gangs:
    """Create the gangs of fairseq2 for the processes of this run."""
    if world_size() == 1:
        return create_fake_gangs(device)
    everyone = distributed.group.WORLD
    assert everyone is not None  # there is more than one process
    gangs = create_parallel_gangs(ProcessGroupGang(everyone, device))
    if parallel == "fsdp":
        gangs = create_fsdp_gangs(gangs)
    return _BorrowedGangs(root=gangs.root, dp=gangs.dp, rdp=gangs.rdp, sdp=gangs.sdp, tp=gangs.tp, pp=gangs.pp)


class SpreadObjective:
    """An objective during training: unwrapped, under DDP or under FSDP2.

    Attributes:
        model: the module to call instead of the objective, which synchronises gradients
    """

    def __init__(self, objective: Objective, gangs: Gangs) -> None:
        self._objective = objective
        self._before: list[_Surface] = []
        self.model: nn.Module
        if gangs.dp.size == 1:
            self.model = objective
        elif gangs.sdp.size == 1:
            self.model = to_ddp(objective, gangs)
        else:
            self._before = [_Surface.of(module) for module in objective.modules()]
            self.model = to_fsdp2(objective, gangs, _shard, broadcast_state=True)

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Return whether all trained parameters of this process are finite."""
        trained = (parameter for parameter in self._objective.parameters() if parameter.requires_grad)
        finite = [_local(parameter).isfinite().all() for parameter in trained]
        return not finite or bool(torch.stack(finite).all())

    def gather(self) -> None:
        """Restore the whole, unwrapped objective on every rank. It cannot be trained through `model` any more."""
        if not self._before:
            return
        for surface in self._before:
            if isinstance(surface.module, FSDP2Module):
                surface.module.reshard()
        whole = {name: _gathered(parameter) for name, parameter in self._objective.named_parameters()}
        for surface in self._before:
            surface.restore()
        for name, parameter in whole.items():
            owner, _, leaf = name.rpartition(".")
            setattr(self._objective.get_submodule(owner), leaf, parameter)


def _shard(module: nn.Module, wrapper: FSDPWrapper) -> nn.Module:
    assert isinstance(module, Objective)
    for shard in shards(module):
        wrapper(shard)
    return wrapper(module, reshard_after_forward=False)


def _local(parameter: nn.Parameter) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _gathered(parameter: nn.Parameter) -> nn.Parameter:
    assert isinstance(parameter, DTensor)
    return nn.Parameter(parameter.full_tensor().detach(), requires_grad=parameter.requires_grad)


_HOOKS = tuple(name for name in vars(nn.Module()) if "_hooks" in name)


@dataclass(frozen=True)
class _Surface:
    """The state of a module that FSDP2 changes besides parameters: its class and its hooks."""

    module: nn.Module
    kind: type[nn.Module]
    hooks: Mapping[str, Any]

    @classmethod
    def of(cls, module: nn.Module) -> _Surface:
        return cls(module, type(module), {name: getattr(module, name).copy() for name in _HOOKS})

    def restore(self) -> None:
        self.module.__class__ = self.kind
        for name, hooks in self.hooks.items():
            setattr(self.module, name, hooks)
