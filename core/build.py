"""Build a part of any kind. Needs no torch.

Notable choices:

- Constructor arguments are matched by name, so a part names only those that it uses.
- A kind of part can name a function that constructs its parts, for example with seeded weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .catalog import Part
from .choices import PartChoice

T = TypeVar("T")


def build(choice: PartChoice, expected: type[T], *, seed: int | None = None, **offers: Any) -> T:
    """Call a part's class, or the function that loads it, with its configuration and the arguments that it names.

    Args:
        expected: the interface that the caller needs
        seed: drives the part's random initial values; also available as the argument `seed`
        offers: further arguments that are available to the constructor; the part's `catalog` always is

    Raises:
        PluginError: if the part cannot be imported, names an argument that is not available, needs an argument that
            would be missing when it is loaded again, or does not implement the interface
    """
    part = choice.part
    interface, construct = part.catalog.part_kind(part.kind).load()
    called = part.load()
    offers = {"catalog": part.catalog, **({} if seed is None else {"seed": seed}), **offers}
    if isinstance(called, type):
        _check(part, called, interface, expected)
    arguments = _arguments(part, called, offers)
    built = construct(choice, arguments, seed) if construct else called(choice.config, **arguments)
    _check(part, type(built), interface, expected)
    assert isinstance(built, expected)
    return built


def _check(part: Part, built: type, *interfaces: type) -> None:
    for interface in interfaces:
        if not issubclass(built, interface):
            module = "ossicle." if interface.__module__.startswith("ossicle.") else ""
            raise part.error(f"it must be an {module}{interface.__name__}, but is a `{built.__name__}`")


def _arguments(part: Part, called: Callable[..., Any], offers: Mapping[str, Any]) -> dict[str, Any]:
    """Select the available arguments that a constructor names after its configuration."""
    named = list(inspect.signature(called).parameters.values())[1:]
    for one in named:
        needed = one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        if needed and one.name not in offers:
            available = ", ".join(sorted(offers))
            raise part.error(f"its constructor needs `{one.name}`, but only these are available: {available}")
    return {one.name: offers[one.name] for one in named if one.name in offers}
