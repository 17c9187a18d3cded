"""Previews of stages: the parts that they would train and pass on, before any of them has run. A plan measures them.

Notable choices:

- Only recipes of parts are stored. A part is built whenever it is needed, so that a plan needs the memory of one stage.
- A stage that trains nothing is expected to make the parts that its settings name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from torch import nn

from ..core.build import build
from ..core.choices import PartChoice, with_options
from ..core.corpora import Corpora
from ..core.display import Silent
from ..core.errors import ArtifactError
from ..core.interfaces import Encoder, FrontEnd, Head, Objective, Tokenizer
from ..core.part_kinds import load_target
from ..core.parts import Recipe, load_part, recipe_of
from ..core.plugin_loading import Plugins
from ..core.stage_runner import StageRun
from ..core.stages import Stage
from ..core.store import Artifact, write_card
from .cost import fake_compute

T = TypeVar("T")

_MODULES: Final[Mapping[str, type[nn.Module]]] = {
    "front_end": FrontEnd,
    "encoder": Encoder,
    "tokenizer": Tokenizer,
    "head": Head,
}


@dataclass(frozen=True)
class Preview:
    """The training of a stage before it runs.

    Attributes:
        objective: the objective, with every part untrained
        front_end: the front end that would make its patches
        inputs: the parts that the objective was built from; some may be outside its module tree
    """

    objective: Objective
    front_end: FrontEnd
    inputs: Sequence[nn.Module]


class Previews:
    """The stages of an experiment as they would start.

    Args:
        corpora: the corpora that the stages train on
        drawn: whether initial weights are drawn from their seeds; if not, building is faster and weights are undefined
    """

    def __init__(self, stages: Sequence[Stage], plugins: Plugins, corpora: Corpora, *, drawn: bool = False) -> None:
        self.plugins = plugins
        self._stages = {stage.name: stage for stage in stages}
        self._corpora = corpora
        self._drawn = drawn
        self._recipes: dict[str, Mapping[str, Recipe]] = {}

    def preview(self, name: str) -> Preview | None:
        """Build the objective of a stage; None if the stage trains nothing, or has no `objective_builder`.

        Raises:
            OssicleError: if its parts cannot be built
        """
        stage = self._stages[name]
        if stage.training_config is None or stage.objective_builder is None:
            return None
        run = self._run(stage)
        build_objective = load_target(stage.objective_builder, f"stage `{stage.kind}`: ")
        with self._building():
            objective: Objective = build_objective(run)
        made = {role: recipe_of(part) for role, part in objective.parts().items()}
        self._recipes[name] = self._front_end_of(stage) | made
        return Preview(objective, self.rebuilt(self._recipes[name]["front_end"], FrontEnd, {}), run.built)

    def recipes(self, name: str) -> Mapping[str, Recipe]:
        """Return the recipes of the parts that a stage passes on, by role."""
        if name not in self._recipes and self.preview(name) is None:
            stage = self._stages[name]
            needs = [*stage.inputs, *(value for value in stage.settings.values() if _is_corpus(value))]
            self._recipes[name] = self._named_by(stage) if needs else self._made_by(stage)
        return self._recipes[name]

    def adopt(self, name: str, other: str) -> None:
        """Assume that a stage passes on the same parts as another one, whose preview exists."""
        self._recipes[name] = self._recipes[other]

    def rebuilt(self, recipe: Recipe, expected: type[T], options: Mapping[str, Any]) -> T:
        """Build a part from its recipe."""
        choice = with_options(recipe.choice, options, self.plugins.catalog) if options else recipe.choice
        with self._building():
            return build(choice, expected, **recipe.arguments)

    def _building(self) -> Any:
        return nullcontext() if self._drawn else fake_compute()  # type: ignore[no-untyped-call]

    def _run(self, stage: Stage) -> _PreviewRun:
        return _PreviewRun(
            stage,
            inputs={role: Artifact(Path(source)) for role, source in stage.inputs.items()},
            folder=Path(),
            work=Path(),
            plugins=self.plugins,
            corpora=self._corpora,
            display=Silent(),
            previews=self,
        )

    def _front_end_of(self, stage: Stage) -> dict[str, Recipe]:
        """Find the front end of the first input that has one."""
        found = [recipes["front_end"] for recipes in map(self.recipes, stage.inputs.values()) if "front_end" in recipes]
        return {"front_end": found[0]} if found else {}

    def _named_by(self, stage: Stage) -> Mapping[str, Recipe]:
        """Build every part that the settings name, to get its recipe."""
        made = self._front_end_of(stage)
        offers: dict[str, Any] = {}
        if made:
            front_end = self.rebuilt(made["front_end"], FrontEnd, {})
            offers = {"front_end": front_end, "patch_dim": front_end.patch_dim, "bands": front_end.bands}
        for source, name in stage.inputs.items():
            if "encoder" in (recipes := self.recipes(name)):
                offers[f"{source}_choice"] = recipes["encoder"].choice
        settings = stage.settings
        for role, expected in _MODULES.items():
            choice = settings.get(role)
            if isinstance(choice, PartChoice) and choice.kind == role:
                with self._building():
                    made[role] = recipe_of(build(choice, expected, seed=stage.seed, **offers))
        return made

    def _made_by(self, stage: Stage) -> Mapping[str, Recipe]:
        """Run a stage without inputs, such as one that reads a checkpoint, and discard its artifact."""
        with TemporaryDirectory() as folder:
            run = self._run(stage)
            run.folder = Path(folder)
            load_target(stage.action, f"stage `{stage.kind}`: ")(run)
            write_card(run.folder, {"parts": run.parts})
            made = Artifact(run.folder)
            catalog = self.plugins.catalog
            return {role: recipe_of(load_part(made, role, _MODULES[role], catalog)) for role in run.parts}


def _is_corpus(value: Any) -> bool:
    return isinstance(value, PartChoice) and value.kind == "corpus"


@dataclass
class _PreviewRun(StageRun[Stage]):
    """A run whose inputs do not exist yet: it builds their parts from recipes."""

    previews: Previews = field(kw_only=True)
    built: list[nn.Module] = field(default_factory=list)

    def part(self, source: str, role: str, expected: type[T], *, options: Mapping[str, Any] | None = None) -> T:
        recipe = self._recipes_of(source).get(role)
        if recipe is None:
            maker = self.stage.inputs[source]
            raise ArtifactError(f"`{self.stage.name}` needs the {role} of `{maker}`, which makes none")
        part = self.previews.rebuilt(recipe, expected, options or {})
        assert isinstance(part, nn.Module)
        self.built.append(part.eval())
        return part

    def holds(self, source: str, role: str) -> bool:
        return role in self._recipes_of(source)

    def _recipes_of(self, source: str) -> Mapping[str, Recipe]:
        return self.previews.recipes(self.stage.inputs[source])
