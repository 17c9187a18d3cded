"""Compilation and gradient checkpointing do not change the results of layers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.autograd.graph import saved_tensors_hooks

import ossicle
from ossicle.cli import main
from ossicle.encoders.encoder_config import StackConfig
from ossicle.encoders.layers import TransformerStack
from ossicle.training.layer_switches import checkpoint_gradients, compile_layers

STACK = StackConfig(layers=3, width=16, feed_forward=32, heads=2, dropout=0.2, attention_dropout=0.2)


def inputs(count: int, clips: int = 2) -> dict[str, Any]:
    torch.manual_seed(count)
    return {
        "sequence": torch.randn(clips, count, 16),
        "valid": torch.arange(count) < torch.tensor([[count], [count - 1]]),
    }


def with_gradients(stack: TransformerStack, count: int) -> tuple[list[Tensor], int]:
    """Return the output of a stack and its gradients, and the bytes that it stores for the backward pass."""
    stored: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    given = inputs(count)
    torch.manual_seed(0)
    stack.zero_grad()
    with saved_tensors_hooks(record, lambda tensor: tensor):
        out, _ = stack(**given)
        size = sum(stored.values())
        out.square().sum().backward()
    return [
        out.detach(),
        *(parameter.grad.clone() for parameter in stack.parameters() if parameter.grad is not None),
    ], size


def test_checkpointed_layers_give_the_same_gradients_with_less_memory() -> None:
    plain = TransformerStack(STACK).train()
    checkpointed = copy.deepcopy(plain)
    checkpoint_gradients(checkpointed)
    expected, size = with_gradients(plain, 40)
    found, smaller = with_gradients(checkpointed, 40)
    assert len(found) == len(list(plain.parameters())) + 1
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)
    assert smaller < 0.5 * size


@pytest.mark.slow
def test_compiled_layers_give_the_same_and_compile_once_for_all_lengths() -> None:
    torch._dynamo.reset()
    counters.clear()
    plain = TransformerStack(STACK).eval()
    compiled = copy.deepcopy(plain)
    compile_layers(compiled, backend="aot_eager")
    with torch.no_grad():
        for count in (17, 30, 24, 8, 101):
            torch.testing.assert_close(compiled(**inputs(count))[0], plain(**inputs(count))[0])
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo reads it
def test_compiled_layers_can_be_trained() -> None:
    torch._dynamo.reset()
    settings = STACK.model_copy(update={"dropout": 0.0, "attention_dropout": 0.0})
    plain = TransformerStack(settings).train()
    compiled = copy.deepcopy(plain)
    compile_layers(compiled, backend="aot_eager")
    for mine, other in zip(with_gradients(compiled, 12)[0], with_gradients(plain, 12)[0], strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("switch", [compile_layers, checkpoint_gradients])
def test_a_module_without_layers_is_refused(switch: Any) -> None:
    with pytest.raises(ossicle.OssicleError, match=r"has no effect: `Linear` contains no `ossicle.LayeredModule`"):
        switch(nn.Linear(2, 2))


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
def test_gradient_checkpointing_does_not_change_a_training(tiny: Path, tmp_path: Path) -> None:
    losses = []
    for name in ("false", "true"):
        # The switch does not change the key of the stage, so each run needs a separate store.
        out = tmp_path / name
        switch = f"pretrain.gradient_checkpointing={name}"
        assert main(["run", str(tiny), "--out", str(out), switch, "evaluate=[]"]) == 0
        (log,) = out.rglob("metrics.jsonl")
        losses.append([json.loads(line)["loss"] for line in log.read_text().splitlines()])
    assert losses[0] == losses[1]
    assert len(losses[0]) > 1
