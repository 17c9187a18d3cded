"""Switches for the computation of layers that do not change results: compilation and gradient checkpointing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..core.errors import OssicleError
from ..core.interfaces import LayeredModule


def compile_layers(module: nn.Module, *, backend: str = "inductor") -> None:
    """Compile each layer in a module with torch, in place, for inputs of any length.

    Layers of one shape share the compiled code.

    Raises:
        OssicleError: if the module has no layers
    """
    for layer in _layers(module, "compile"):
        layer.compile(dynamic=True, backend=backend)  # type: ignore[no-untyped-call]


def checkpoint_gradients(module: nn.Module) -> None:
    """Make each layer in a module compute its activations again in the backward pass, in place.

    Raises:
        OssicleError: if the module has no layers
    """
    for layer in _layers(module, "gradient_checkpointing"):
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def _layers(module: nn.Module, switch: str) -> Sequence[nn.Module]:
    layers = [layer for stack in module.modules() if isinstance(stack, LayeredModule) for layer in stack.layers]
    if not layers:
        raise OssicleError(
            f"`{switch}` has no effect: `{type(module).__name__}` contains no `ossicle.LayeredModule`; "
            "derive the stack of layers from it, or switch this option off"
        )
    return layers
