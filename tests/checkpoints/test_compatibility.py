"""A checkpoint is checked with the catalog of the experiment, which knows the plugins that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ossicle.checkpoints.checkpoint_config import EncoderCheckpointConfig
from ossicle.core.build import build
from ossicle.core.catalog import Catalog
from ossicle.core.choices import PartChoice
from ossicle.core.interfaces import Encoder, FrontEnd
from ossicle.core.parts import save_part
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.store import write_card

pytestmark = pytest.mark.usefixtures("own_plugins")

PLUGIN = """
import ossicle, torch

class MeanConfig(ossicle.Config):
    \"""Nothing to set.\"""

    def compatibility_facts(self, catalog):
        return {"encoder_width": 1, "encoder_layers": 0}

@ossicle.encoder("mean")
class Mean(ossicle.Encoder):
    \"""The mean of a patch.\"""

    width = 1

    def __init__(self, config: MeanConfig) -> None:
        super().__init__()

    def forward(self, batch, *, visible=None, layers=False):
        raise NotImplementedError
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """The catalog of an experiment that names a plugin file."""
    (tmp_path / "mean.py").write_text(PLUGIN)
    return load_plugins([tmp_path / "mean.py"]).catalog


@pytest.fixture
def checkpoint(tmp_path: Path, catalog: Catalog) -> Path:
    """An artifact with the plugin's encoder, behind a front end with statistics of its corpus."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    front_end = build(choice(catalog, "front_end", "kaldi_fbank"), FrontEnd)  # type: ignore[type-abstract]
    front_end.set_statistics(torch.full((128,), 3.0), torch.full((128,), 2.0))
    encoder = build(choice(catalog, "encoder", "mean"), Encoder)  # type: ignore[type-abstract]
    parts = {"front_end": front_end, "encoder": encoder}
    write_card(folder, {"key": "0", "parts": {role: save_part(folder, role, part) for role, part in parts.items()}})
    return folder


def choice(catalog: Catalog, kind: str, name: str, **config: Any) -> PartChoice:
    return PartChoice.of(catalog.get(kind, name), config)


def problems(checkpoint: Path, catalog: Catalog, front_end: PartChoice) -> list[str]:
    context = {"catalog": catalog, "front_end": front_end.config}
    return EncoderCheckpointConfig(path=checkpoint).check_compatibility(context)


def test_an_encoder_of_a_plugin_states_its_shape(checkpoint: Path, catalog: Catalog) -> None:
    config = EncoderCheckpointConfig(path=checkpoint)
    assert config.compatibility_facts(catalog) == {"encoder_width": 1, "encoder_layers": 0}
    assert config.compatibility_facts(load_plugins().catalog) == {}, "without the plugin nothing is known"


def test_a_plugin_that_is_not_loaded_is_named(checkpoint: Path) -> None:
    catalog = load_plugins().catalog
    (problem,) = problems(checkpoint, catalog, choice(catalog, "front_end", "kaldi_fbank"))
    assert problem.startswith(f"{checkpoint} needs the plugin mean.py sha256:")
    assert "which is not loaded: there is no encoder called `mean`" in problem


@pytest.mark.parametrize(
    ("config", "fits"),
    [({}, False), ({"mean": 3.0, "std": 2.0}, True), ({"mean": 3.0}, False), ({"mean": 3.0, "std": 2.5}, False)],
)
def test_spectrograms_are_compared(config: dict[str, float], fits: bool, checkpoint: Path, catalog: Catalog) -> None:
    found = problems(checkpoint, catalog, choice(catalog, "front_end", "kaldi_fbank", **config))
    assert found == [] if fits else "was trained with other settings or statistics of the front end" in found[0]


def test_the_front_end_of_the_same_checkpoint_fits(checkpoint: Path, catalog: Catalog) -> None:
    assert problems(checkpoint, catalog, choice(catalog, "front_end", "checkpoint", path=str(checkpoint))) == []


def test_without_a_context_only_the_role_is_checked(checkpoint: Path) -> None:
    assert EncoderCheckpointConfig(path=checkpoint).check_compatibility({}) == []
    (checkpoint / "card.json").unlink()
    write_card(checkpoint, {"key": "0", "parts": {}})
    (problem,) = EncoderCheckpointConfig(path=checkpoint).check_compatibility({})
    assert problem == f"{checkpoint} holds no encoder; it holds: no parts"
