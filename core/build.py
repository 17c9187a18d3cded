"""Build a part of any kind. Needs no torch.

Notable choices:

- Constructor arguments are matched by name, so that a part asks only for what it uses.
- What the parts of some kinds need besides, such as seeded weights, is a step that the kind names.
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
        seed: drives the part's random initial values; on offer as `seed`
        offers: further arguments that are on offer; the part's `catalog` always is

    Raises:
        PluginError: if the part cannot be imported, asks for what is not on offer, needs what would not be there when
            it is loaded again, or does not implement the interface
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
    """Those of the offers that a constructor names after its configuration."""
    named = list(inspect.signature(called).parameters.values())[1:]
    for one in named:
        needed = one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        if needed and one.name not in offers:
            on_offer = ", ".join(sorted(offers))
            raise part.error(f"its constructor asks for `{one.name}`, but only these are on offer: {on_offer}")
    return {one.name: offers[one.name] for one in named if one.name in offers}
