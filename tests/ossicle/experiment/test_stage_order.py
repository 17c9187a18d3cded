"""The order of stages, and graphs without a valid order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ossicle.core.errors import OssicleError
from ossicle.core.stages import Stage
from ossicle.experiment.stage_order import in_order, with_inputs


@dataclass(frozen=True, kw_only=True)
class Plain(Stage):
    """A stage without settings."""

    kind = "plain"
    action = "module:function"


def stage(name: str, *inputs: str) -> Stage:
    return Plain(name=name, inputs={f"role {number}": name for number, name in enumerate(inputs)})


def names(*stages: Stage) -> list[str]:
    return [item.name for item in in_order(stages)]


def test_inputs_come_first_and_the_given_order_is_kept_otherwise() -> None:
    assert names(stage("a"), stage("b", "a"), stage("c"), stage("d", "b")) == ["a", "b", "c", "d"]
    assert names(stage("late", "early"), stage("other"), stage("early")) == ["early", "late", "other"]


def test_the_same_stage_may_be_listed_twice() -> None:
    assert names(stage("a"), stage("b", "a"), stage("a")) == ["a", "b"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([stage("a"), stage("b"), stage("a", "b")], "two different stages are called `a`"),
        ([stage("a", "b")], "stage `a` needs `b` as its role 0, but there is no such stage"),
        ([stage("a", "c"), stage("b", "a"), stage("c", "b")], "the stages form a cycle: a -> c -> b -> a"),
        ([stage("a", "a")], "the stages form a cycle: a -> a"),
    ],
)
def test_invalid_graphs(stages: list[Stage], message: str) -> None:
    with pytest.raises(OssicleError) as caught:
        in_order(stages)
    assert str(caught.value) == message


def test_a_stage_is_selected_with_all_its_inputs() -> None:
    stages = [stage("a"), stage("b", "a"), stage("c"), stage("d", "b")]
    assert [one.name for one in with_inputs(stages, ["d"])] == ["a", "b", "d"]
