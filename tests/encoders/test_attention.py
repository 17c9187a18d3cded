"""Attention on a CPU compared with torch's implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ossicle.encoders import attention
from ossicle.encoders.attention import attend

CLIPS, HEADS, QUERIES, SIZE = 5, 3, 7, 4


def inputs(*, memory: int, gated: bool, biased: bool, per_clip: bool) -> dict[str, Any]:
    torch.manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    padding = torch.zeros(CLIPS, 1, 1, memory, dtype=torch.float64)
    padding[1, ..., memory // 2 :] = float("-inf")
    bias = drawn(*((CLIPS,) if per_clip else ()), HEADS, QUERIES, memory) if biased else None
    return {
        "query": drawn(CLIPS, QUERIES, HEADS, SIZE),
        "key": drawn(CLIPS, memory, HEADS, SIZE),
        "value": drawn(CLIPS, memory, HEADS, SIZE),
        "padding": padding,
        "bias": bias,
        "gate": drawn(CLIPS, HEADS, QUERIES, 1) if gated and biased else None,
    }


def attended(given: dict[str, Any], dropout: float = 0.0) -> Tensor:
    by_head = {name: given[name].transpose(1, 2) for name in ("query", "key", "value")}
    return attend(**(given | by_head), dropout=dropout)


def with_gradients(given: dict[str, Any]) -> list[Tensor]:
    learnt = [tensor for tensor in given.values() if tensor is not None and tensor.requires_grad]
    for tensor in learnt:
        tensor.grad = None
    out = attended(given)
    out.square().sum().backward()
    return [out.detach(), *(tensor.grad for tensor in learnt)]


@settings(deadline=None, max_examples=30)
@given(
    memory=st.sampled_from([2, 7, 9]), gated=st.booleans(), per_clip=st.booleans(), at_once=st.sampled_from([1, 2**22])
)
def test_equals_torchs_attention(memory: int, gated: bool, per_clip: bool, at_once: int) -> None:
    given = inputs(memory=memory, gated=gated, biased=True, per_clip=per_clip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_AT_ONCE", at_once)
        ours = with_gradients(given)
        patch.setattr(attention, "on_cpu", lambda _: False)
        torchs = with_gradients(given)
    assert len(ours) == (6 if gated else 5)
    for mine, other in zip(ours, torchs, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("gradients", [False, True])
def test_no_queries(gradients: bool) -> None:
    given = inputs(memory=3, gated=True, biased=True, per_clip=False)
    none = {
        "query": given["query"][:, :0].detach().requires_grad_(),
        "bias": given["bias"][:, :0],
        "gate": given["gate"][:, :, :0],
    }
    with torch.set_grad_enabled(gradients):
        out = attended(given | none)
    assert out.shape == (CLIPS, HEADS, 0, SIZE)
    if gradients:
        out.sum().backward()
        assert not given["key"].grad.any()


@pytest.mark.parametrize("at_once", [1, 2 * HEADS * QUERIES**2, 2**22])
def test_without_gradients_a_few_clips_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(memory=QUERIES, gated=True, biased=True, per_clip=False)
    expected = attended(given).detach()
    monkeypatch.setattr(attention, "_AT_ONCE", at_once)
    with torch.no_grad():
        torch.testing.assert_close(attended(given), expected)


@pytest.mark.parametrize("biased", [False, True])
def test_the_backward_pass_drops_the_same_weights(biased: bool) -> None:
    given = inputs(memory=QUERIES, gated=True, biased=biased, per_clip=False)
    learnt = {name: given[name] for name in ("query", "key", "value", "bias", "gate") if given[name] is not None}

    def seeded(*tensors: Tensor) -> Tensor:
        torch.manual_seed(1)
        return attended(given | dict(zip(learnt, tensors, strict=True)), dropout=0.3)

    assert torch.autograd.gradcheck(seeded, tuple(learnt.values()), fast_mode=True)


def test_dropout_keeps_the_mean() -> None:
    given = inputs(memory=QUERIES, gated=True, biased=True, per_clip=False)
    torch.manual_seed(2)
    mean = torch.stack([attended(given, dropout=0.2).detach() for _ in range(1000)]).mean(0)
    torch.testing.assert_close(mean, attended(given).detach(), atol=0.15, rtol=0)


def test_stores_no_tensor_of_the_size_of_the_weights() -> None:
    given = inputs(memory=QUERIES, gated=True, biased=True, per_clip=False)
    stored: list[Tensor] = []
    with saved_tensors_hooks(lambda tensor: stored.append(tensor) or tensor, lambda tensor: tensor):
        attended(given, dropout=0.1)
    assert stored
    assert not [tensor for tensor in stored if tensor.shape[-2:] == (QUERIES, QUERIES) and tensor is not given["bias"]]
