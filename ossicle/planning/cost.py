"""The cost of a training step: counted operations, estimated memory, measured time.

Notable choices:

- A count runs the forward and backward pass of training on a clip of noise. Large tensors have only a shape, so that a
  model of any size takes seconds.
- Attention is counted as the matrix products that it consists of, with any kernel. The same holds for the memory that
  it keeps for the backward pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from ..core.data import SpectrogramBatch
from ..core.distributed import compute_device
from ..core.experiment import TrainingConfig
from ..core.interfaces import FrontEnd, Objective, ObjectiveOutput
from ..training.layer_switches import checkpoint_gradients
from ..training.objective_extras import augment

MEASURED_STEPS: Final = 3
STEP_SECONDS: Final = 4.0
"""Target duration of a measured step, which sets its number of clips."""

_STATE_BYTES: Final = 12
"""Bytes of training state per parameter besides its value, in fp32: the gradient and AdamW's two moments."""


@dataclass(frozen=True)
class Noise:
    """Clips of noise that replace those of a corpus.

    Attributes:
        seconds: length of each clip
        classes: number of classes; 0 for clips without labels
        multi_label: whether a clip can have several labels
    """

    seconds: float
    classes: int = 0
    multi_label: bool = False

    def batch(self, front_end: FrontEnd, clips: int) -> SpectrogramBatch:
        """Make a batch of clips with the same white noise, in the format of the data pipeline in training."""
        samples = max(1, round(self.seconds * front_end.sample_rate))
        frames = front_end.spectrogram(0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(0)))
        labels = torch.arange(clips) % max(1, self.classes)
        batch = SpectrogramBatch(
            frames=frames.expand(clips, -1, -1).clone(),
            lengths=torch.full((clips,), len(frames)),
            samples=torch.full((clips,), samples),
            clips=torch.arange(clips),
            labels=labels if self.classes else None,
            draws=torch.arange(clips),
        )
        if self.multi_label:
            batch.labels = nn.functional.one_hot(labels, self.classes).float()
        batch.to(compute_device())
        return batch


@dataclass(frozen=True)
class StepCost:
    """The cost of a training step, as a fixed part and a part per clip.

    Attributes:
        parameters: number of trained parameters
        kept: number of parameters of each part that is kept after the training, by role
        patches: number of patches of a clip
        flops: floating-point operations of products and convolutions for a clip, forward and backward
        fixed_bytes: memory of weights, gradients, AdamW's moments and frozen parts, and saved tensors whose size does
            not depend on the number of clips
        clip_bytes: memory that the forward pass saves per clip for the backward pass
    """

    parameters: int
    kept: Mapping[str, int]
    patches: int
    flops: int
    fixed_bytes: int
    clip_bytes: int


@dataclass(frozen=True)
class MeasuredSteps:
    """Measured optimiser steps: the number of clips in each, and the median duration in seconds."""

    clips: int
    seconds: float


def count_step(
    objective: Objective,
    front_end: FrontEnd,
    noise: Noise,
    training: TrainingConfig,
    *,
    inputs: Sequence[nn.Module] = (),
) -> StepCost:
    """Count the operations and estimate the memory of a step.

    Args:
        inputs: modules that the objective may use outside its module tree, such as a frozen teacher
    """
    objective.to(compute_device()).train()
    front_end.to(compute_device())
    if training.gradient_checkpointing:
        checkpoint_gradients(objective)
    weights = {tensor.data_ptr(): tensor.nbytes for module in (objective, *inputs) for tensor in _tensors(module)}
    trained = sum(parameter.numel() for parameter in objective.parameters() if parameter.requires_grad)
    one, two = (noise.batch(front_end, clips) for clips in (1, 2))
    with fake_compute(), sdpa_kernel(SDPBackend.MATH):  # type: ignore[no-untyped-call]
        with FlopCounterMode(display=False) as counter:
            output, kept = _forward(objective, front_end, one, training)
            (output.loss / output.count).backward()  # type: ignore[no-untyped-call]
        more = _forward(objective, front_end, two, training)[1]
    objective.zero_grad(set_to_none=True)
    of_one, of_two = (sum(size for address, size in sizes.items() if address not in weights) for sizes in (kept, more))
    return StepCost(
        parameters=trained,
        kept={role: sum(map(Tensor.numel, part.parameters())) for role, part in objective.parts().items()},
        patches=front_end.patches(one).grid.patches,
        flops=counter.get_total_flops(),
        fixed_bytes=sum(weights.values()) + _STATE_BYTES * trained + max(0, 2 * of_one - of_two),
        clip_bytes=of_two - of_one,
    )


def measure_steps(
    objective: Objective, front_end: FrontEnd, noise: Noise, training: TrainingConfig, *, most_clips: int
) -> MeasuredSteps:
    """Take a few optimiser steps on noise, on the device that training would use.

    Args:
        most_clips: largest number of clips in a step; slow models get fewer
    """
    # The engine imports fairseq2, which a plan that only counts does not need.
    from ..training.optimization import build_optimizer

    objective.to(compute_device()).train()
    front_end.to(compute_device())
    if training.gradient_checkpointing:
        checkpoint_gradients(objective)
    torch.set_num_threads(training.threads or torch.get_num_threads())
    optimizer = build_optimizer(objective, training)

    def step(clips: int) -> float:
        batch = noise.batch(front_end, clips)
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        output, _ = _forward(objective, front_end, batch, training)
        (output.loss / output.count).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(objective.parameters(), training.max_grad_norm or float("inf"))
        optimizer.step()
        # Reading the value waits for an accelerator.
        float(output.loss.detach())
        return time.perf_counter() - started

    step(1)
    clips = max(1, min(most_clips, int(STEP_SECONDS / step(1))))
    return MeasuredSteps(clips, median(step(clips) for _ in range(MEASURED_STEPS)))


def _forward(
    objective: Objective, front_end: FrontEnd, batch: SpectrogramBatch, training: TrainingConfig
) -> tuple[ObjectiveOutput, Mapping[int, int]]:
    """Return the objective's output, and the bytes saved for the backward pass by memory address."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    patches = front_end.patches(augment(objective, batch))
    half = torch.autocast(patches.patches.device.type, torch.bfloat16, enabled=training.precision == "bf16")
    with half, saved_tensors_hooks(keep, lambda tensor: tensor):
        return objective(patches), kept


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


class fake_compute(TorchDispatchMode):  # noqa: N801  (a context manager, named like a function)
    """Give large floating-point tensors a shape without computing their values, which are undefined.

    Small tensors and those without floating-point numbers are computed as usual, because shapes may depend on them.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        counted = func._overloadpacket in flop_registry
        shape_only = any(tensor.is_meta for tensor in tensors)
        if shape_only or (not counted and (func in _PLAIN or not any(map(_is_large, tensors)))):
            return func(*args, **kwargs)
        schema = func._schema
        if schema.is_mutable:
            # The operation only fills the tensor that it returns.
            return args[0] if _is_large(args[0]) and len(schema.returns) == 1 else func(*args, **kwargs)
        if any(result.alias_info for result in schema.returns):
            return func(*args, **kwargs)
        try:
            shapes = func(*tree_map_only(Tensor, _bare, args), **tree_map_only(Tensor, _bare, kwargs))
        except (RuntimeError, NotImplementedError):
            # The shape depends on values, or the operation has no implementation for shapes.
            return func(*args, **kwargs)
        if not all(shape.is_floating_point() for shape in tree_leaves(shapes) if isinstance(shape, Tensor)):
            return func(*args, **kwargs)
        return tree_map_only(Tensor, lambda shape: torch.empty_like(shape, device=tensors[0].device), shapes)


LARGE: Final = 2**14
"""Number of elements from which the values of a tensor are not computed."""
_PLAIN: Final = frozenset({torch.ops.aten.detach.default, torch.ops.aten.alias.default})


def _is_large(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() >= LARGE


def _bare(tensor: Tensor) -> Tensor:
    return tensor.to("meta")
