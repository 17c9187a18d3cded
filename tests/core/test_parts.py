"""Building parts, and storing them as tensors and configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ossicle.core.build import build
from ossicle.core.catalog import Catalog, Origin, UnknownPartError
from ossicle.core.choices import PartChoice
from ossicle.core.config import Config
from ossicle.core.data import Grid, PatchBatch
from ossicle.core.errors import ArtifactError, PluginError
from ossicle.core.interfaces import Encoder, Tokenizer
from ossicle.core.part_kinds import ossicle_register_part_kinds
from ossicle.core.parts import load_part, save_part
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.store import Artifact, write_card

pytestmark = pytest.mark.usefixtures("own_plugins")

EXAMPLE = Path(__file__).parents[2] / "examples" / "sign_hash.py"
BATCH = PatchBatch(
    torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)), torch.ones(2, 6, dtype=torch.bool), Grid(3, 2)
)


class Settings(Config):
    """Settings of a part."""

    size: int = 4


class Asking(Tokenizer):
    """Needs the argument `cochlea`, which an artifact cannot store."""

    def __init__(self, config: Settings, patch_dim: int, cochlea: object, bands: int = 7) -> None:
        super().__init__(config.size)
        self.arguments = (patch_dim, cochlea, bands)

    def forward(self, batch: PatchBatch) -> Tensor:
        return torch.zeros(batch.valid.shape, dtype=torch.int64)


def choice(part: type, **config: Any) -> PartChoice:
    catalog = Catalog()
    with catalog.added_by(Origin("ears", "1.0")):
        ossicle_register_part_kinds(catalog)
        catalog.add("tokenizer", "mine", part)
    return PartChoice.of(catalog.get("tokenizer", "mine"), config)


def sign_hash(**config: Any) -> tuple[PartChoice, Catalog]:
    catalog = load_plugins([EXAMPLE]).catalog
    return PartChoice.of(catalog.get("tokenizer", "sign_hash"), config), catalog


def build_tokenizer(of: PartChoice, **arguments: Any) -> Tokenizer:
    return build(of, Tokenizer, **arguments)  # type: ignore[type-abstract]


def test_a_constructor_gets_only_the_arguments_that_it_names() -> None:
    built = build_tokenizer(choice(Asking), patch_dim=5, cochlea="snail", encoder="not named")
    assert isinstance(built, Asking)
    assert built.arguments == (5, "snail", 7)


def test_an_unavailable_argument_is_reported_with_the_available_ones() -> None:
    with pytest.raises(PluginError) as caught:
        build_tokenizer(choice(Asking), patch_dim=5, bands=2)
    assert str(caught.value) == (
        "tokenizer `mine` of ears 1.0 cannot be built: its constructor needs `cochlea`, "
        "but only these are available: bands, catalog, patch_dim"
    )


def test_a_part_that_could_not_be_loaded_again_is_refused_before_training() -> None:
    with pytest.raises(
        PluginError, match="its constructor needs `cochlea`, which is missing when the part is loaded again: give"
    ):
        build_tokenizer(choice(Asking), patch_dim=5, cochlea=object())


def test_a_part_of_the_wrong_class() -> None:
    with pytest.raises(
        PluginError,
        match=r"tokenizer `mine` of ears 1\.0 cannot be built: it must be an ossicle\.Encoder, but is a `Asking`",
    ):
        build(choice(Asking), Encoder, patch_dim=5)  # type: ignore[type-abstract]


def test_initial_values_depend_only_on_the_seed() -> None:
    of, _ = sign_hash()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, same, other = (build_tokenizer(of, patch_dim=5, seed=seed).state_dict()["planes"] for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state), "building must not change the global generator"


def saved(folder: Path, **config: Any) -> tuple[Tokenizer, Artifact, Catalog]:
    of, catalog = sign_hash(**config)
    tokenizer = build_tokenizer(of, patch_dim=5, seed=3)
    entry = save_part(folder, "tokenizer", tokenizer)
    (folder / "card.json").write_text(json.dumps({"parts": {"tokenizer": entry}}))
    return tokenizer, Artifact(folder), catalog


def load_tokenizer(artifact: Artifact, catalog: Catalog) -> Tokenizer:
    return load_part(artifact, "tokenizer", Tokenizer, catalog)  # type: ignore[type-abstract]


def test_a_part_from_a_plugin_file_is_the_same_after_saving_and_loading(tmp_path: Path) -> None:
    tokenizer, artifact, catalog = saved(tmp_path, bits=4)
    loaded = load_tokenizer(artifact, catalog)
    assert loaded.codebook_size == 16
    assert torch.equal(loaded.tokenize(BATCH).ids, tokenizer.tokenize(BATCH).ids)
    assert not loaded.training


def test_the_plugin_that_a_part_needs_is_named(tmp_path: Path) -> None:
    _, artifact, _ = saved(tmp_path)
    message = (
        r"needs the plugin sign_hash.py sha256:\w{16}, which is not loaded: there is no tokenizer called `sign_hash`"
    )
    with pytest.raises(UnknownPartError, match=message):
        load_tokenizer(artifact, load_plugins().catalog)


def test_a_role_that_an_artifact_does_not_hold(tmp_path: Path) -> None:
    _, artifact, catalog = saved(tmp_path)
    with pytest.raises(ArtifactError, match="holds no encoder; it holds: tokenizer"):
        load_part(artifact, "encoder", Encoder, catalog)  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("cut", "the tensors of tokenizer do not fit its configuration"),
        ("gone", r"tokenizer\.safetensors is missing"),
        ("other shape", "the tensors of tokenizer do not fit its configuration"),
    ],
)
def test_damaged_tensors_are_reported(damage: str, message: str, tmp_path: Path) -> None:
    _, artifact, catalog = saved(tmp_path, bits=4)
    file = tmp_path / "tokenizer.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    elif damage == "gone":
        file.unlink()
    else:
        artifact.card["parts"]["tokenizer"]["config"]["bits"] = 5
    with pytest.raises(ArtifactError, match=message):
        load_tokenizer(artifact, catalog)


def test_tensors_that_do_not_match_the_card_are_not_loaded(tmp_path: Path) -> None:
    tokenizer, artifact, catalog = saved(tmp_path, bits=4)
    write_card(tmp_path, artifact.card)
    for name in tokenizer.state_dict():
        tokenizer.state_dict()[name].add_(1)
    save_part(tmp_path, "tokenizer", tokenizer)
    with pytest.raises(ArtifactError, match=r"tokenizer\.safetensors is damaged: its content does not match"):
        load_tokenizer(Artifact(tmp_path), catalog)


def test_a_configuration_that_no_longer_fits_is_reported(tmp_path: Path) -> None:
    _, artifact, catalog = saved(tmp_path)
    artifact.card["parts"]["tokenizer"]["config"]["old"] = 1
    with pytest.raises(
        ArtifactError, match="the configuration of its tokenizer no longer fits `sign_hash`; make it again"
    ):
        load_tokenizer(artifact, catalog)


class Wrapping(Tokenizer):
    """Builds and wraps another tokenizer."""

    def __init__(self, config: Settings, patch_dim: int, inner: PartChoice) -> None:
        super().__init__(config.size)
        self.inner = build_tokenizer(inner, patch_dim=patch_dim, seed=self.seed)

    def forward(self, batch: PatchBatch) -> Tensor:
        return self.inner(batch)


def test_a_part_in_an_argument_is_stored_with_its_configuration(tmp_path: Path) -> None:
    of, catalog = sign_hash(bits=4)
    with catalog.added_by(Origin("ears", "1.0")):
        catalog.add("tokenizer", "wrapping", Wrapping)
    wrapping = PartChoice.of(catalog.get("tokenizer", "wrapping"), {"size": 16})
    made = build_tokenizer(wrapping, patch_dim=5, inner=of, seed=3)
    entry = save_part(tmp_path, "tokenizer", made)
    (tmp_path / "card.json").write_text(json.dumps({"parts": {"tokenizer": entry}}))
    loaded = load_tokenizer(Artifact(tmp_path), catalog)
    assert torch.equal(loaded.tokenize(BATCH).ids, made.tokenize(BATCH).ids)


def test_a_module_that_is_not_a_part_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="`Linear` cannot be stored, because it is not a part of the catalog"):
        save_part(tmp_path, "encoder", torch.nn.Linear(2, 2))
