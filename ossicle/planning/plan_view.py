"""A plan as a tree: every stage below the stage of its group that uses it, with its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ..report.formats import SPACE, count, duration
from .locate import ASSUMED_CLASSES
from .plan import Plan, PlannedStage, PlannedTraining

KEY_DIGITS = 12
ASSUMED = f"clips of `crop_seconds`, {ASSUMED_CLASSES} classes, no folds"
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def print_plan(plan: Plan, console: Console) -> None:
    """Print the tree, the remaining work, and the assumptions."""
    console.print(_tree(plan))
    console.print()
    console.print(Text(_to_do(plan), "bold"), soft_wrap=True)
    if plan.to_train:
        console.print(Text(_how_estimated(plan), "dim"), soft_wrap=True)
    if plan.open:
        console.print(Text(f"Assumed for unknown corpora: {ASSUMED}.", "dim"), soft_wrap=True)
    for text in plan.open:
        console.print(Text("open: ", "bold yellow").append(text, "default"), soft_wrap=True)


def _tree(plan: Plan) -> Tree:
    done = sum(planned.artifact is not None for planned in plan.stages)
    root = Tree(Text(plan.name, "bold").append(f"  {count(len(plan.stages), 'stage')}, {done} done", "not bold dim"))
    below = _below(plan.stages)
    nested = {planned.stage.name for others in below.values() for planned in others}
    groups: dict[str, list[PlannedStage]] = {}
    for planned in plan.stages:
        if planned.stage.name not in nested:
            groups.setdefault(_group(planned), []).append(planned)
    for name, members in groups.items():
        branch = root if len(members) == 1 else root.add(Text(name, "bold"))
        for planned in members:
            _grow(branch, planned, below, plan)
    return root


def _group(planned: PlannedStage) -> str:
    return planned.stage.name.partition("/")[0]


def _below(stages: Sequence[PlannedStage]) -> Mapping[str, Sequence[PlannedStage]]:
    """Map each stage to the inputs below it: those of its group that are not below another stage."""
    by_name = {planned.stage.name: planned for planned in stages}
    taken: set[str] = set()
    found: dict[str, list[PlannedStage]] = {}
    for planned in stages:
        for source in planned.stage.inputs.values():
            if _group(by_name[source]) == _group(planned) and source not in taken:
                taken.add(source)
                found.setdefault(planned.stage.name, []).append(by_name[source])
    return found


def _grow(branch: Tree, planned: PlannedStage, below: Mapping[str, Sequence[PlannedStage]], plan: Plan) -> None:
    hanging = below.get(planned.stage.name, ())
    node = branch.add(_label(planned, [other.stage.name for other in hanging], plan))
    for other in hanging:
        _grow(node, other, below, plan)


def _label(planned: PlannedStage, shown: Sequence[str], plan: Plan) -> Text:
    stage = planned.stage
    label = Text(stage.name)
    label.append("  ").append_text(_state(planned))
    if planned.key:
        label.append(f"  {planned.key[:KEY_DIGITS]}", "dim")
    # Surveys are left out, because every stage needs one.
    others = [f"{role} {name}" for role, name in stage.inputs.items() if name not in shown and role != "survey"]
    if others:
        label.append(f"  from {', '.join(others)}", "dim")
    if planned.training is not None:
        for line in _figures(planned.training, plan):
            label.append("\n").append(line, "cyan" if planned.artifact is None else "dim")
    elif planned.unknown:
        label.append(f"\ncost unknown: {planned.unknown}", "yellow")
    return label


def _state(planned: PlannedStage) -> Text:
    if planned.artifact is not None:
        return Text(f"done in {duration(planned.artifact.card['seconds'])}", "green")
    if planned.training is not None and planned.training.seconds is not None:
        return Text(f"to do, {_lasting(planned.training.seconds)}", "yellow")
    return Text("to do" if planned.key else "key unknown", "yellow")


def _figures(training: PlannedTraining, plan: Plan) -> list[str]:
    cost, settings = training.cost, training.settings
    kept = ", ".join(f"{role} {_metric(number)}" for role, number in cost.kept.items())
    runs = "" if training.runs == 1 else f"{training.runs} × "
    lines = [
        f"{_metric(cost.parameters)} parameters ({kept}), "
        f"{runs}{settings.steps:,} steps of {count(training.clips, 'clip')} of {training.noise.seconds:g}{SPACE}s: "
        f"{_metric(training.patches)} patches",
        f"{_metric(training.step_flops, 'FLOP')} per step, {_metric(training.flops, 'FLOP')} in total; peak memory "
        f"{_gib(training.bytes)} estimated ({_gib(cost.fixed_bytes)} + {_gib(cost.clip_bytes)} per clip)",
    ]
    if training.tokens_cached is not None:
        lines.append(
            "tokens of whole clips: computed once, then read from disk"
            if training.tokens_cached
            else "tokens: computed in every step, which is faster than reading them"
        )
    taken = training.calibration
    if taken is not None:
        price = plan.cost(training.seconds)
        lines.append(
            f"measured: {taken.seconds:.3g}{SPACE}s and {_gib(taken.bytes)} for steps of {count(taken.clips, 'clip')}"
            + ("" if price is None else f"; costs {price:,.2f}")
        )
    return lines


def _to_do(plan: Plan) -> str:
    training = plan.to_train
    if not training:
        return "no training is left to do"
    text = f"to do: {count(len(training), 'training')}, {_metric(sum(one.flops for one in training), 'FLOP')}"
    if plan.seconds is not None:
        text += f", {_lasting(plan.seconds)} on this machine"
    price = plan.cost(plan.seconds)
    return text if price is None else f"{text}, which cost {price:,.2f}"


def _how_estimated(plan: Plan) -> str:
    text = (
        "Memory: fp32 weights, gradients, AdamW's moments, and tensors saved for the backward pass of a whole batch on "
        "one device, with plain attention."
    )
    if plan.seconds is None:
        return f"{text} Times: `--calibrate` measures a few steps."
    return f"{text} Times: only training, scaled from the measured steps; other stages are not measured."


def _lasting(seconds: float) -> str:
    days = seconds / 86400
    return duration(seconds) if days < 2 else f"{days:,.0f}{SPACE}days"


def _metric(number: float, unit: str = "") -> str:
    """Format 137414369280 as `137 G`, with a unit as `137 GFLOP`."""
    place = 0
    while number >= 999.5 and place < len(_PREFIXES) - 1:
        number /= 1000
        place += 1
    return f"{number:.3g}{SPACE}{_PREFIXES[place]}{unit}".rstrip()


def _gib(size: float) -> str:
    """Format bytes as `1.7 GiB` or `12 MiB`."""
    gib = size / 2**30
    return f"{gib:,.1f}{SPACE}GiB" if gib >= 0.1 else f"{size / 2**20:,.1f}{SPACE}MiB"
