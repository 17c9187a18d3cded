"""Cross-attention: queries attend to the memory and never to each other, and only distances of positions matter."""

from __future__ import annotations

import pytest
import torch

from ossicle.core.interfaces import building_with
from ossicle.encoders.cross_attention import CrossAttentionStack
from ossicle.encoders.encoder_config import StackConfig
from ossicle.encoders.layers import TransformerStack

WIDTH = 16


def config(norm: str, **options: bool) -> StackConfig:
    return StackConfig(
        layers=2, width=WIDTH, feed_forward=32, heads=2, dropout=0.0, attention_dropout=0.0, norm=norm,
        deep_norm=norm == "post", layer_drop=0.0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_queries_are_independent_and_padding_changes_nothing(norm: str) -> None:
    torch.manual_seed(0)
    stack = CrossAttentionStack(config(norm)).eval()
    queries, memory = torch.randn(1, 5, WIDTH), torch.randn(1, 4, WIDTH)
    positions, memory_positions = torch.tensor([[1, 3, 9, 0, 7]]), torch.tensor([[2, 4, 0, 0]])
    valid = torch.tensor([[True, True, False, False]])
    whole = stack(queries, memory, valid=valid, positions=positions, memory_positions=memory_positions)
    for number in range(5):
        one = slice(number, number + 1)
        single = stack(
            queries[:, one],
            memory[:, :2],
            valid=valid[:, :2],
            positions=positions[:, one],
            memory_positions=memory_positions[:, :2],
        )
        torch.testing.assert_close(single, whole[:, one])


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_sequence_as_its_memory_is_self_attention(norm: str) -> None:
    """With one layer and a memory that equals the input of the layer, both stacks give the same result."""
    one = config(norm).model_copy(update={"layers": 1})
    with building_with(0):
        self_attention = TransformerStack(one).eval()
    cross = CrossAttentionStack(one).eval()
    cross.load_state_dict(self_attention.state_dict(), strict=False)
    sequence = torch.randn(2, 6, WIDTH)
    valid = torch.arange(6) < torch.tensor([[6], [4]])
    positions = torch.stack([torch.randperm(20)[:6] for _ in range(2)])
    expected, _ = self_attention(sequence, valid=valid, positions=positions)
    found = cross(sequence, sequence, valid=valid, positions=positions, memory_positions=positions)
    torch.testing.assert_close(found, expected)


def test_attention_depends_only_on_the_distance_between_positions() -> None:
    torch.manual_seed(0)
    stack = CrossAttentionStack(config("pre")).eval()
    queries, memory = torch.randn(1, 1, WIDTH).expand(1, 2, -1), torch.randn(1, 3, WIDTH)
    where = {"valid": torch.ones(1, 3, dtype=torch.bool), "memory_positions": torch.tensor([[2, 5, 6]])}
    near = stack(queries, memory, positions=torch.tensor([[3, 8]]), **where)
    assert not torch.allclose(near[:, 0], near[:, 1])
    where["memory_positions"] = where["memory_positions"] + 10
    torch.testing.assert_close(stack(queries, memory, positions=torch.tensor([[13, 18]]), **where), near)
