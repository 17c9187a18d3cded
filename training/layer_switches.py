"""Switches of how layers are computed, which change no result: compiled, or computed anew for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..core.errors import OssicleError
from ..core.interfaces import LayeredModule


def compile_layers(module: nn.Module, *, backend: str = "inductor") -> None:
    """Let torch compile each layer within a module, in place, for inputs of any length.

    Layers of one shape share what is compiled.

    Raises:
        OssicleError: if it has none
    """
    for layer in _layers(module, "compile"):
        layer.compile(dynamic=True, backend=backend)  # type: ignore[no-untyped-call]


def checkpoint_gradients(module: nn.Module) -> None:
    """Let each layer within a module be computed anew for the backward pass, in place.

    Raises:
        OssicleError: if it has none
    """
    for layer in _layers(module, "gradient_checkpointing"):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def _layers(module: nn.Module, switch: str) -> Sequence[nn.Module]:
    layers = [layer for stack in module.modules() if isinstance(stack, LayeredModule) for layer in stack.layers]
    if not layers:
        raise OssicleError(
            f"`{switch}` has nothing to work on: nothing in `{type(module).__name__}` is an ossicle.LayeredModule; "
            "derive the stack of layers from it, or leave the switch off"
        )
    return layers
