"""Kinds of parts: the interface that the parts of a kind implement, how they are constructed, and the core's kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import PluginError
from .hooks import hookimpl

if TYPE_CHECKING:
    from .catalog import Catalog, Origin
    from .choices import PartChoice

Construct: TypeAlias = "Callable[[PartChoice, Mapping[str, Any], int | None], object]"
"""Constructs a part from its choice, further arguments of its constructor, and the seed if there is one."""


@dataclass(frozen=True)
class PartKind:
    """A kind of part, such as `tokenizer`.

    Attributes:
        name: as YAML files and decorators write it
        interface: the class that its parts implement, or `"module:Class"`
        summary: one line of documentation
        construct: `"module:function"` of a `Construct`; None if it is enough to call the part's class
        origin: the plugin that adds it
    """

    name: str
    interface: type | str
    summary: str
    construct: str | None
    origin: Origin

    def load(self) -> tuple[type, Construct | None]:
        """Import the interface and `construct`.

        Raises:
            PluginError: if one of them cannot be imported
        """
        owner = f"kind of part `{self.name}` of {self.origin.describe()}: "
        interface: Any = load_target(self.interface, owner)
        return interface, load_target(self.construct, owner) if self.construct else None


def load_target(target: Callable[..., Any] | str, owner: str) -> Callable[..., Any]:
    """Import the class or function that `"module:name"` names. A class or function is returned unchanged.

    Args:
        owner: beginning of the error message

    Raises:
        PluginError: if it cannot be imported or called
    """
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    try:
        loaded: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{owner}{error}") from error
    if not callable(loaded):
        raise PluginError(f"{owner}`{target}` is not a class or function")
    return loaded


@hookimpl
def ossicle_register_part_kinds(catalog: Catalog) -> None:
    """Add the kinds of parts that the core uses."""
    here, module, stored = __package__, f"{__package__}.parts:construct_module", f"{__package__}.parts:construct_stored"
    add = catalog.add_part_kind
    add("corpus", f"{here}.corpus:Corpus", "Recordings, their splits and their labels.")
    add("front_end", f"{here}.interfaces:FrontEnd", "From waveforms to patches.", construct=stored)
    add("encoder", f"{here}.interfaces:Encoder", "From patches to vectors.", construct=stored)
    normalizing = f"{__package__}.parts:construct_tokenizer"
    add("tokenizer", f"{here}.interfaces:Tokenizer", "From patches to tokens.", construct=normalizing)
    add("head", f"{here}.interfaces:Head", "From an encoder's vectors to the classes of clips.", construct=stored)
    add("objective", f"{here}.interfaces:Objective", "What is learnt: gives the loss of a batch.", construct=module)
    add("optimizer", f"{here}.interfaces:Optimizer", "How gradients change the weights.")
    add("lr_schedule", f"{here}.interfaces:LrSchedule", "How the learning rate changes during a training.")
    add("schedule", f"{here}.stages:Schedule", "From an experiment to its stages.")
    add("task", f"{here}.task:Task", "What an encoder is evaluated on.")
