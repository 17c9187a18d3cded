"""`build` for parts of every kind: constructor arguments are matched by name, and every failure has a message."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ossicle
from ossicle.core.build import build
from ossicle.core.catalog import Catalog, Part
from ossicle.core.choices import PartChoice
from ossicle.core.data import Encoded, Grid, PatchBatch, SpectrogramBatch
from ossicle.core.errors import PluginError
from ossicle.core.plugin_loading import load_plugins

pytestmark = pytest.mark.usefixtures("own_plugins")

CATALOG = load_plugins().catalog


class NothingConfig(ossicle.Config):
    """Nothing to set."""


class Asks:
    """Records the arguments of its constructor."""

    def __init__(self, config: NothingConfig, seed: int, catalog: Catalog, extra: str, other: int = 7) -> None:
        super().__init__()
        self.arguments = (seed, catalog, extra, other)


class AskingCorpus(Asks, ossicle.Corpus):
    def manifest(self) -> ossicle.Manifest:
        raise NotImplementedError


class AskingFrontEnd(Asks, ossicle.FrontEnd):
    @property
    def transform(self) -> Any:
        raise NotImplementedError

    def patches(self, batch: SpectrogramBatch) -> PatchBatch:
        raise NotImplementedError

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        raise NotImplementedError

    def fingerprint(self) -> str:
        raise NotImplementedError

    def column_times(self, columns: int) -> Tensor:
        raise NotImplementedError

    def band_edges(self) -> Tensor:
        raise NotImplementedError


class AskingEncoder(Asks, ossicle.Encoder):
    def forward(self, batch: PatchBatch, **options: Any) -> Encoded:
        raise NotImplementedError


class AskingTokenizer(ossicle.Tokenizer):
    def __init__(self, config: NothingConfig, seed: int, catalog: Catalog, extra: str, other: int = 7) -> None:
        super().__init__(2)
        self.arguments = (seed, catalog, extra, other)

    def forward(self, batch: PatchBatch) -> Tensor:
        raise NotImplementedError


class AskingHead(Asks, ossicle.Head):
    def forward(self, encoded: Encoded) -> Tensor:
        raise NotImplementedError


class AskingObjective(Asks, ossicle.Objective):
    def forward(self, batch: PatchBatch) -> ossicle.ObjectiveOutput:
        raise NotImplementedError

    def parts(self) -> Mapping[str, nn.Module]:
        raise NotImplementedError


class AskingOptimizer(Asks, ossicle.Optimizer):
    def build(self, objective: ossicle.Objective, *, lr: float) -> torch.optim.Optimizer:
        raise NotImplementedError


class AskingLrSchedule(Asks, ossicle.LrSchedule):
    def build(self, optimizer: torch.optim.Optimizer, *, steps: int, warmup_steps: int) -> Any:
        raise NotImplementedError


class AskingMasking(Asks, ossicle.Masking):
    def order(self, ranks: Tensor, grid: Grid) -> Tensor:
        raise NotImplementedError


class AskingSchedule(Asks, ossicle.Schedule):
    def stages(self, experiment: Any) -> list[ossicle.Stage]:
        raise NotImplementedError


class AskingTask(Asks, ossicle.Task):
    def evaluate(self, features: ossicle.Features, *, seed: int) -> ossicle.TaskResult:
        raise NotImplementedError


class AskingLauncher(Asks, ossicle.Launcher):
    def submit(self, name: str, function: Any, *arguments: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


ASKING: dict[str, type] = {
    "corpus": AskingCorpus,
    "front_end": AskingFrontEnd,
    "encoder": AskingEncoder,
    "tokenizer": AskingTokenizer,
    "head": AskingHead,
    "objective": AskingObjective,
    "masking": AskingMasking,
    "optimizer": AskingOptimizer,
    "lr_schedule": AskingLrSchedule,
    "schedule": AskingSchedule,
    "task": AskingTask,
    "launcher": AskingLauncher,
}
KINDS = sorted(CATALOG.part_kinds)


def choice_of(kind: str, part: type) -> PartChoice:
    catalog = load_plugins().catalog
    catalog.add(kind, "mine", part)
    return PartChoice.of(catalog.get(kind, "mine"), {})


def described(part: Part) -> str:
    return f"{part.kind} `mine` of {part.origin.describe()} cannot be built: "


@pytest.mark.parametrize("kind", KINDS)
def test_a_constructor_gets_only_the_arguments_that_it_names(kind: str) -> None:
    choice = choice_of(kind, ASKING[kind])
    built = build(choice, ASKING[kind], seed=3, extra="of the caller", encoder="not named")
    assert built.arguments == (3, choice.part.catalog, "of the caller", 7)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unavailable_argument_is_reported_with_the_available_ones(kind: str) -> None:
    choice = choice_of(kind, ASKING[kind])
    with pytest.raises(PluginError) as caught:
        build(choice, ASKING[kind], seed=3)
    assert str(caught.value) == (
        f"{described(choice.part)}its constructor needs `extra`, but only these are available: catalog, seed"
    )


class NotAPart:
    """Implements no interface."""

    def __init__(self, config: NothingConfig) -> None: ...


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_must_implement_the_interface_of_its_kind(kind: str) -> None:
    choice = choice_of(kind, NotAPart)
    interface = "".join(map(str.capitalize, kind.split("_")))
    with pytest.raises(PluginError) as caught:
        build(choice, object)
    assert str(caught.value) == f"{described(choice.part)}it must be an ossicle.{interface}, but is a `NotAPart`"


def test_the_result_of_a_function_is_checked() -> None:
    catalog = load_plugins().catalog
    with catalog.added_by(CATALOG.part_kind("encoder").origin):
        catalog.add("encoder", "number", "builtins:repr", config=NothingConfig)
    choice = PartChoice.of(catalog.get("encoder", "number"), {})
    with pytest.raises(PluginError, match=r"cannot be built: it must be an ossicle\.Encoder, but is a `str`"):
        build(choice, ossicle.Encoder)  # type: ignore[type-abstract]


class Drawn(AskingEncoder):
    """Draws its weights."""

    def __init__(self, config: NothingConfig) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.randn(3))


def test_a_module_without_a_seed_uses_seed_0_and_not_the_global_generator() -> None:
    choice = choice_of("encoder", Drawn)
    state = torch.random.get_rng_state()
    drawn, zero, other = build(choice, Drawn), build(choice, Drawn, seed=0), build(choice, Drawn, seed=1)
    assert torch.equal(drawn.weight, zero.weight)
    assert not torch.equal(drawn.weight, other.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


WITHOUT_TORCH = """
import sys
from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.corpus import Corpus
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.stages import Schedule
from ossicle.plugins.launcher_interface import Launcher

catalog = load_plugins().catalog
build(PartChoice.of(catalog.get("corpus", "folder"), {"path": "/nowhere"}), Corpus)
build(PartChoice.of(catalog.get("schedule", "scratch"), {}), Schedule, seed=1)
build(PartChoice.of(catalog.get("launcher", "local"), {}), Launcher, jobs=1).close()
print("torch" in sys.modules)
"""


def test_corpora_schedules_and_launchers_are_built_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
