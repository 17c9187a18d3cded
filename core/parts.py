"""Build parts from their configuration, and keep them as tensors and configuration: nothing is ever unpickled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .catalog import Catalog, Part, UnknownPartError
from .config import PartChoice
from .errors import ArtifactError, PluginError
from .interfaces import building_with
from .store import Artifact

T = TypeVar("T")

_PLAIN = (str, int, float, bool, type(None))


def build(choice: PartChoice, expected: type[T], *, seed: int = 0, **offers: Any) -> T:
    """Construct a part, giving its constructor those of `offers` that it names.

    Args:
        expected: the interface that the part must implement
        seed: drives the part's random initial values

    Raises:
        PluginError: if the constructor names something that is not on offer, or the part is no `expected`
    """
    part = choice.part
    cls = part.load()
    if not issubclass(cls, expected):
        raise PluginError(
            f"{part.kind} `{part.name}` of {part.origin.describe()} must be an ossicle.{expected.__name__}"
        )
    construct: Callable[..., T] = cls
    arguments = _arguments(part, cls, offers)
    with building_with(seed):
        return construct(choice.config, **arguments)


def _arguments(part: Part, cls: type, offers: Mapping[str, Any]) -> dict[str, Any]:
    parameters = list(inspect.signature(cls).parameters.values())[1:]
    chosen = {}
    for parameter in parameters:
        if parameter.name in offers:
            chosen[parameter.name] = offers[parameter.name]
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            raise PluginError(
                f"{part.kind} `{part.name}` of {part.origin.describe()} asks for `{parameter.name}`, "
                f"but only these are on offer: {', '.join(sorted(offers)) or 'nothing'}"
            )
    return chosen


def save_part(folder: Path, role: str, module: nn.Module, choice: PartChoice, **offers: Any) -> dict[str, Any]:
    """Write a part's tensors to `<role>.safetensors`.

    Args:
        offers: what `build` was given besides the configuration; only plain values are kept

    Returns:
        The part's entry for an artifact's card: what `load_part` needs besides the tensors.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / f"{role}.safetensors")
    return {
        "kind": choice.kind,
        "type": choice.name,
        "config": choice.config.model_dump(mode="json"),
        "arguments": {name: value for name, value in offers.items() if isinstance(value, _PLAIN)},
        "origin": choice.part.origin.describe(),
        "plugin": choice.part.origin.path,
    }


def load_part(artifact: Artifact, role: str, expected: type[T], catalog: Catalog) -> T:
    """Rebuild the part that an artifact holds under `role`.

    Raises:
        ArtifactError: if there is none, or its tensors do not fit
        UnknownPartError: if the plugin that made it is not loaded
    """
    entry = artifact.card.get("parts", {}).get(role)
    if entry is None:
        raise ArtifactError(
            f"{artifact.path} holds no {role}; it holds: {', '.join(artifact.card.get('parts', {})) or 'no parts'}"
        )
    try:
        choice = PartChoice.of(catalog.get(entry["kind"], entry["type"]), entry["config"], catalog=catalog)
    except UnknownPartError as error:
        raise UnknownPartError(
            f"{artifact.path} needs the plugin {entry['origin']}, which is not loaded: {error}"
        ) from error
    except ValidationError as error:
        raise ArtifactError(
            f"{artifact.path}: the configuration of its {role} no longer fits `{entry['type']}`; make it anew: {error}"
        ) from error
    module = build(choice, expected, **entry["arguments"])
    assert isinstance(module, nn.Module)
    try:
        module.load_state_dict(load_file(artifact.path / f"{role}.safetensors"))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ArtifactError(f"{artifact.path}: the tensors of {role} do not fit its configuration: {error}") from error
    module.eval()
    return module
