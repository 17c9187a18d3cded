"""Kinds of parts from plugins: chosen, checked, listed, explained and built like the built-in ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ossicle
from ossicle.cli import main
from ossicle.core.catalog import Catalog, Origin
from ossicle.core.errors import PluginError
from ossicle.core.plugin_loading import load_plugins

pytestmark = pytest.mark.usefixtures("own_plugins")

KIND = '''"""A kind of part."""
from abc import ABC, abstractmethod
import ossicle, torch

class Noise(ABC):
    """What is added to patches."""

    @abstractmethod
    def add(self, patches: torch.Tensor) -> torch.Tensor: ...

@ossicle.hookimpl
def ossicle_register_part_kinds(catalog):
    catalog.add_part_kind("noise", Noise)
'''
PART = '''"""A part of that kind."""
import ossicle, torch
from fake_b_noise import Noise

class WhiteConfig(ossicle.Config):
    """Gaussian noise."""

    level: float = 0.1
    """Its standard deviation."""

@ossicle.part("noise", "white")
class White(Noise):
    """Gaussian noise."""

    def __init__(self, config: WhiteConfig, patch_dim: int) -> None:
        self.level, self.patch_dim = config.level, patch_dim

    def add(self, patches: torch.Tensor) -> torch.Tensor:
        assert patches.shape[-1] == self.patch_dim
        return patches + self.level * torch.randn_like(patches)
'''
USER = '''"""An objective that chooses one."""
from dataclasses import replace
from typing import Annotated
import ossicle
from ossicle.tasks.objectives.objective_config import ReconstructionConfig
from ossicle.tasks.objectives.reconstruction import Reconstruction

class NoisyConfig(ReconstructionConfig):
    """Reconstruct noisy patches."""

    noise: Annotated[ossicle.PartChoice, ossicle.ChoiceOf("noise")]
    """What is added."""

@ossicle.objective("noisy")
class Noisy(Reconstruction):
    """Reconstruct noisy patches."""

    def __init__(self, config: NoisyConfig, encoder: ossicle.Encoder, patch_dim: int) -> None:
        super().__init__(config, encoder, patch_dim)
        self.noise = ossicle.build(config.noise, object, patch_dim=patch_dim)

    def forward(self, batch):
        return super().forward(replace(batch, patches=self.noise.add(batch.patches)))
'''


@pytest.fixture
def noise(install: Callable[..., None]) -> None:
    """Two installed packages. The package with the part is loaded before the package with its kind."""
    install("fake_a_white", PART)
    install("fake_b_noise", KIND)


@pytest.fixture
def user(tmp_path: Path) -> Path:
    path = tmp_path / "user.py"
    path.write_text(USER)
    return path


@pytest.fixture
def noisy(tiny: Path, user: Path) -> Path:
    """An experiment that chooses a part of the new kind."""
    text = tiny.read_text()
    objective = "{type: masked_prediction, predictor: {layers: 1, heads: 2}}"
    assert objective in text
    chosen = "\n    type: noisy\n    predictor: {layers: 1, heads: 2}\n    noise: {type: white, level: 0.5}"
    tiny.write_text(f"plugins: [./{user.name}]\n{text.replace(f' {objective}', chosen)}")
    return tiny


@pytest.mark.slow
@pytest.mark.usefixtures("noise", "no_report")
def test_an_experiment_runs_with_a_part_of_a_new_kind(noisy: Path, tmp_path: Path) -> None:
    options = ["pretrain.steps=2", "evaluate=[]", "schedule={type: single}"]
    run = ossicle.run(noisy, overrides=options, out=tmp_path / "runs")
    stages = json.loads((run / "run.json").read_text())["stages"]
    stage = next(stage for stage in stages if stage["kind"] == "pretrain")
    card = json.loads((run / stage["artifact"] / "card.json").read_text())
    chosen = card["config"]["training"]["objective"]["noise"]
    assert (chosen["type"], chosen["level"]) == ("white", 0.5)
    assert chosen["origin"].startswith("fake_a_white 1.0")


@pytest.mark.usefixtures("noise")
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{type: wite}", "there is no noise called `wite`. Did you mean `white`? Allowed: white."),
        ("{type: white, levl: 1.0}", "unknown key `levl`. Did you mean `level`? Allowed: type, level."),
        ("{type: white, level: loud}", "`pretrain.objective.noise.level` must be a number, but is the text `loud`"),
    ],
)
def test_a_wrong_choice_is_reported_with_its_location(
    written: str, message: str, noisy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = noisy.read_text().replace("{type: white, level: 0.5}", written)
    noisy.write_text(text)
    number = 1 + next(index for index, one in enumerate(text.splitlines()) if "noise:" in one)
    assert main(["check", str(noisy)]) == 2
    reported = capsys.readouterr().err
    assert reported.startswith(f"{noisy}:{number}:")
    assert reported.rstrip().endswith(message)


def test_a_missing_kind_is_reported_with_the_plugin_that_failed(
    noisy: Path, install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install("fake_b_noise", "import nowhere_to_be_found\n")
    assert main(["check", str(noisy)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
    assert "there is no kind of part called `noise`. Allowed: corpus, front_end, " in line
    assert " Plugin fake_b_noise 1.0 (fake_b_noise) may offer it, but failed to load: ModuleNotFoundError: " in line


def test_a_part_of_an_unknown_kind_fails_with_its_plugin(install: Callable[..., None]) -> None:
    install("fake_b_noise", KIND)
    install("fake_a_white", PART.replace('part("noise"', 'part("nois"'))
    (failure,) = load_plugins().catalog.failures
    assert failure.source == "fake_a_white 1.0 (fake_a_white)"
    assert failure.error.startswith("there is no kind of part called `nois`. Did you mean `noise`? Allowed: corpus, ")


def test_the_order_of_plugin_files_does_not_matter(tmp_path: Path) -> None:
    kind, part = tmp_path / "kind.py", tmp_path / "part.py"
    kind.write_text(KIND)
    part.write_text(PART.replace("from fake_b_noise import Noise\n", "Noise = object\n"))
    for files in ([kind, part], [part, kind]):
        catalog = load_plugins(files).catalog
        assert catalog.names("noise") == ["white"]
        assert catalog.part_kind("noise").origin.source == "kind.py"


@pytest.mark.usefixtures("noise")
def test_a_new_kind_is_listed_and_explained(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    assert any(line.split()[:2] == ["noise", "white"] for line in capsys.readouterr().out.splitlines())

    assert main(["plugins", "--json"]) == 0
    kind = next(one for one in json.loads(capsys.readouterr().out)["kinds"] if one["name"] == "noise")
    assert kind == {
        "name": "noise",
        "origin": "fake_b_noise 1.0",
        "interface": "fake_b_noise.Noise",
        "summary": "What is added to patches.",
    }

    assert main(["explain", "noise"]) == 0
    assert capsys.readouterr().out == (
        "noise   (fake_b_noise 1.0)\n\nWhat is added to patches.\n\n  interface: fake_b_noise.Noise\n  parts: white\n"
    )
    assert main(["explain", "objective", "noisy", "--plugin", str(user)]) == 0
    assert "  noise: noise (a part); must be given\n      What is added.\n" in capsys.readouterr().out


def schema(capsys: pytest.CaptureFixture[str], user: Path) -> dict[str, Any]:
    assert main(["schema", "--plugin", str(user)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["$defs"]
    assert found["objective.noisy"]["properties"]["noise"]["$ref"] == "#/$defs/noise"
    return found


@pytest.mark.usefixtures("noise")
def test_the_schema_has_a_new_kind(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = schema(capsys, user)
    assert {"$ref": "#/$defs/noise.white"} in found["noise"]["anyOf"]
    assert found["noise.white"]["properties"]["level"]["description"] == "Its standard deviation."


def test_the_schema_has_a_kind_without_parts(
    user: Path, install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install("fake_b_noise", KIND)
    assert schema(capsys, user)["noise"]["anyOf"][0] == {"enum": []}


class Documented:
    """Of a part."""


class Undocumented: ...


def test_two_plugins_cannot_add_the_same_kind() -> None:
    catalog = Catalog()
    for _ in range(2):
        with catalog.added_by(Origin("ears", "1.0")):
            catalog.add_part_kind("noise", Documented)

    def second() -> None:
        with catalog.added_by(Origin("noses", "2.0")):
            catalog.add_part_kind("also", Documented)
            catalog.add_part_kind("noise", Documented)

    message = r"kind of part `noise` is offered by ears 1\.0 and by noses 2\.0; rename one of them"
    with pytest.raises(PluginError, match=message):
        second()
    assert list(catalog.part_kinds) == ["noise"], "a plugin that fails must leave nothing behind"


def test_a_kind_needs_documentation() -> None:
    with pytest.raises(PluginError, match="kind of part `noise` needs documentation: a docstring of its interface, or"):
        Catalog().add_part_kind("noise", Undocumented)


def test_an_interface_that_cannot_be_imported_is_reported_when_a_part_is_built() -> None:
    catalog = Catalog()
    with catalog.added_by(Origin("ears", "1.0")):
        catalog.add_part_kind("noise", "nowhere_to_be_found:Noise", "What is added to patches.")
    with pytest.raises(PluginError, match=r"kind of part `noise` of ears 1\.0: No module named 'nowhere_to_be_found'"):
        catalog.part_kind("noise").load()
