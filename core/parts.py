"""Parts that are modules: built from a seed, and stored as tensors and configuration. Nothing is unpickled."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .build import build
from .catalog import Catalog, UnknownPartError
from .choices import PartChoice, with_options
from .config import TokenizerConfig
from .errors import ArtifactError, PluginError
from .interfaces import Tokenizer, building_with
from .store import Artifact

T = TypeVar("T")

_PLAIN = (str, int, float, bool, type(None))


def construct_module(choice: PartChoice, arguments: Mapping[str, Any], seed: int | None) -> object:
    """Construct a module with seeded initial values, and record its configuration and arguments.

    A part can complete its configuration while it is built. Its attribute `config` is what is stored.
    """
    with building_with(seed or 0):
        built = choice.part.load()(choice.config, **arguments)
    if isinstance(built, nn.Module) and not hasattr(built, _RECIPE):
        settled = getattr(built, "config", None)
        completed = PartChoice(choice.part, settled) if type(settled) is type(choice.config) else choice
        setattr(built, _RECIPE, Recipe(completed, arguments))
    return built


def construct_stored(choice: PartChoice, arguments: Mapping[str, Any], seed: int | None) -> object:
    """Construct a module that an artifact will hold, like `construct_module`.

    A part that could not be loaded again is refused here, before it is trained.

    Raises:
        PluginError: if the constructor needs an argument that a card cannot hold
    """
    called = choice.part.load()
    parameters = inspect.signature(called).parameters
    for name in arguments.keys() - _storable(arguments).keys() - {"catalog"} if isinstance(called, type) else ():
        if parameters[name].default is inspect.Parameter.empty:
            raise choice.part.error(
                f"its constructor needs `{name}`, which is missing when the part is loaded again: give `{name}` a "
                "default. Artifacts store `teacher_choice`, but not the teacher"
            )
    return construct_module(choice, arguments, seed)


def construct_tokenizer(choice: PartChoice, arguments: Mapping[str, Any], seed: int | None) -> object:
    """As `construct_stored`, with the normalisation of the input that the configuration of a tokenizer states."""
    built = construct_stored(choice, arguments, seed)
    if isinstance(built, Tokenizer) and isinstance(choice.config, TokenizerConfig):
        built.input_normalization = choice.config.input_normalization
    return built


def comes_trained(choice: PartChoice) -> bool:
    """Return whether a choice names a part that is trained already, such as one in a checkpoint."""
    return not isinstance(choice.part.load(), type)


@dataclass(frozen=True)
class Recipe:
    """The choice and the arguments that a part was built from, attached to the module for saving."""

    choice: PartChoice
    arguments: Mapping[str, Any]

    def __deepcopy__(self, memo: Mapping[int, Any]) -> Recipe:
        # A copy of the module shares its arguments, such as a front end.
        return self


_RECIPE = "_ossicle_recipe"


def choice_of(module: nn.Module) -> PartChoice:
    """Return the part and the configuration that a module was built from.

    Raises:
        PluginError: if `build` did not make it
    """
    return recipe_of(module).choice


def recipe_of(module: nn.Module) -> Recipe:
    """Return the recipe of a module.

    Raises:
        PluginError: if `build` did not make it
    """
    recipe = getattr(module, _RECIPE, None)
    if not isinstance(recipe, Recipe):
        raise PluginError(
            f"`{type(module).__name__}` cannot be stored, because it is not a part of the catalog: "
            "an objective must return the parts that it was given, or parts made by `ossicle.build`"
        )
    return recipe


def save_part(folder: Path, role: str, module: nn.Module) -> dict[str, Any]:
    """Write the tensors of a part that `build` or `load_part` made to `<role>.safetensors`.

    Returns:
        The part's entry for an artifact's card: what `load_part` needs besides the tensors.

    Raises:
        PluginError: if the module is not a part of the catalog
    """
    recipe = recipe_of(module)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / f"{role}.safetensors")
    return {
        "kind": recipe.choice.kind,
        "type": recipe.choice.name,
        "config": recipe.choice.config.model_dump(mode="json"),
        "arguments": _storable(recipe.arguments),
        "origin": recipe.choice.part.origin.describe(),
        "plugin": recipe.choice.part.origin.path,
    }


def _storable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a card can store: plain values, and choices of parts with their kind."""
    plain = {name: value for name, value in arguments.items() if isinstance(value, _PLAIN)}
    chosen = {name: value for name, value in arguments.items() if isinstance(value, PartChoice)}
    return plain | {name: {"kind": choice.kind, **choice.plain()} for name, choice in chosen.items()}


def _restored(arguments: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    return {
        name: _choice(value["kind"], value["type"], value, catalog) if isinstance(value, dict) else value
        for name, value in arguments.items()
    }


def _choice(kind: str, name: str, stated: Mapping[str, Any], catalog: Catalog) -> PartChoice:
    config = {key: value for key, value in stated.items() if key not in ("kind", "type")}
    return PartChoice.of(catalog.get(kind, name), config, catalog=catalog)


def load_part(
    artifact: Artifact, role: str, expected: type[T], catalog: Catalog, *, options: Mapping[str, Any] | None = None
) -> T:
    """Rebuild the part of an artifact with this role.

    Args:
        options: settings to replace in its configuration, such as dropout; the tensors stay the same

    Raises:
        ArtifactError: if there is none, or its tensors do not fit
        ConfigError: if the part has no such option
        UnknownPartError: if the plugin that made it is not loaded
    """
    choice, arguments = _stated(artifact, role, catalog)
    if options:
        choice = with_options(choice, options, catalog)
    module = build(choice, expected, **arguments)
    assert isinstance(module, nn.Module)
    try:
        module.load_state_dict(load_file(artifact.file(f"{role}.safetensors")))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ArtifactError(f"{artifact.path}: the tensors of {role} do not fit its configuration: {error}") from error
    module.eval()
    return module


def choice_in(artifact: Artifact, role: str, catalog: Catalog) -> PartChoice:
    """Return the part and the configuration of an artifact's role, without building it.

    Raises:
        ArtifactError: if there is none, or its configuration no longer fits
        UnknownPartError: if the plugin that made it is not loaded
    """
    return _stated(artifact, role, catalog)[0]


def _stated(artifact: Artifact, role: str, catalog: Catalog) -> tuple[PartChoice, dict[str, Any]]:
    entry = artifact.card.get("parts", {}).get(role)
    if entry is None:
        raise ArtifactError(
            f"{artifact.path} holds no {role}; it holds: {', '.join(artifact.card.get('parts', {})) or 'no parts'}"
        )
    try:
        choice = _choice(entry["kind"], entry["type"], entry["config"], catalog)
        return choice, _restored(entry["arguments"], catalog)
    except UnknownPartError as error:
        raise UnknownPartError(
            f"{artifact.path} needs the plugin {entry['origin']}, which is not loaded: {error}"
        ) from error
    except ValidationError as error:
        raise ArtifactError(
            f"{artifact.path}: the configuration of its {role} no longer fits `{entry['type']}`; make it again: {error}"
        ) from error
