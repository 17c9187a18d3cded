"""The catalog of parts and of kinds of stages: their names, classes and origins.

Notable choices:

- A part is added by its class, or by `"module:Class"` together with its configuration class. With the latter, listing
  and checking do not import torch.
- Two plugins cannot offer the same name, because it would be unclear which one an experiment means.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .config import Config
from .errors import OssicleError, PluginError
from .part_kinds import PartKind, load_target
from .stages import Stage, check_kind
from .wording import choices

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Origin:
    """Where a part comes from: a distribution and its version, a file and its hash, or the running program."""

    source: str
    version: str = ""
    path: str | None = None

    def describe(self) -> str:
        return f"{self.source} {self.version}".strip()

    def fingerprint(self) -> str:
        """Return a text that changes if the part's code may have changed. The location of a file does not matter."""
        return f"{Path(self.source).name if self.path else self.source} {self.version}"

    @classmethod
    def of_file(cls, path: Path) -> Origin:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return cls(source=path.name, version=f"sha256:{digest}", path=str(path))

    @classmethod
    def of_program(cls, part: Callable[..., Any], *functions: Callable[..., Any]) -> Origin:
        """Compute the origin of a class that a notebook or script defines.

        Args:
            functions: further code that the result depends on

        Raises:
            PluginError: if the source cannot be read
        """
        try:
            source = "".join(inspect.getsource(one) for one in (part, *functions))
            digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        except (OSError, TypeError) as error:
            raise PluginError(
                f"the source of `{part.__qualname__}` cannot be read, so results of different versions could not be "
                "distinguished; define it in a file or a notebook cell"
            ) from error
        return cls(source=f"defined in {part.__module__}", version=f"sha256:{digest}")


@dataclass(frozen=True)
class Part:
    """One entry of the catalog.

    Attributes:
        target: the part's class, or `"module:name"` of it or of a function that makes the part
        catalog: the catalog that holds it
        aliases: former names, which YAML files may still use
    """

    kind: str
    name: str
    target: type | str
    config: type[Config]
    origin: Origin
    catalog: Catalog = field(compare=False, repr=False)
    aliases: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Import the part's class, or the function that makes it; see `load_target`."""
        return load_target(self.target, str(self.error("")))

    def error(self, reason: str) -> PluginError:
        """Return the error for a part that cannot be built."""
        return PluginError(f"{self.kind} `{self.name}` of {self.origin.describe()} cannot be built: {reason}")

    @property
    def summary(self) -> str:
        """The first line of the part's documentation."""
        return _first_line(self.config if isinstance(self.target, str) else self.target)


class UnknownPartError(OssicleError):
    """A name that no plugin offers."""


@dataclass(frozen=True)
class PluginFailure:
    """A plugin that could not be loaded. Its parts are missing from the catalog."""

    source: str
    error: str


def config_of(part: type) -> type[Config]:
    """Read the configuration class of a part from the annotation of its first constructor argument.

    Raises:
        PluginError: if there is none
    """
    requirement = (
        f"the first argument of `{part.__qualname__}.__init__` must be annotated with a subclass of ossicle.Config"
    )
    constructor = vars(part).get("__init__") or part.__init__  # type: ignore[misc]
    parameters = list(inspect.signature(constructor).parameters.values())
    if len(parameters) < 2 or parameters[1].annotation is inspect.Parameter.empty:
        raise PluginError(requirement)
    annotation = parameters[1].annotation
    if isinstance(annotation, str):
        # Only this annotation is evaluated. The others may name types that are imported only for type checkers.
        try:
            annotation = eval(annotation, getattr(constructor, "__globals__", {}))
        except Exception as error:
            raise PluginError(f"{requirement} ({error})") from error
    if not (isinstance(annotation, type) and issubclass(annotation, Config)):
        raise PluginError(f"{requirement}, but is annotated with `{annotation}`")
    return annotation


@dataclass
class Catalog:
    """All parts on offer, by kind and name.

    Attributes:
        failures: plugins that could not be loaded
        part_kinds: the kinds of parts, by name
        stage_kinds: the kinds of stages, by id, each with its origin
    """

    failures: list[PluginFailure] = field(default_factory=list)
    part_kinds: dict[str, PartKind] = field(default_factory=dict)
    stage_kinds: dict[str, tuple[type[Stage], Origin]] = field(default_factory=dict)
    _parts: dict[tuple[str, str], Part] = field(default_factory=dict)
    _origin: Origin | None = None

    def add_part_kind(
        self, name: str, interface: type | str, summary: str = "", *, construct: str | None = None
    ) -> None:
        """Offer a kind of part. Plugins call this in the hook `ossicle_register_part_kinds`.

        Args:
            interface: the class that parts of this kind implement, or `"module:Class"`
            summary: one line of documentation; by default the first line of the interface
            construct: as in `core.part_kinds.PartKind`

        Raises:
            PluginError: if the name is taken, or there is no documentation
        """
        if not (summary := summary or _first_line(interface)):
            raise PluginError(f"kind of part `{name}` needs documentation: a docstring of its interface, or `summary=`")
        origin = self._origin or Origin.of_program(load_target(interface, f"kind of part `{name}`"))
        kind = PartKind(name, interface, summary, construct, origin)
        if (taken := self.part_kinds.setdefault(name, kind)) != kind:
            raise _offered_twice(f"kind of part `{name}`", taken.origin, origin)

    def part_kind(self, name: str) -> PartKind:
        """Look a kind of part up.

        Raises:
            PluginError: if no plugin offers it
        """
        if name not in self.part_kinds:
            raise PluginError(self.unknown("kind of part", name, self.part_kinds))
        return self.part_kinds[name]

    def unknown(self, what: str, name: str, allowed: Iterable[str]) -> str:
        """Describe a name that no plugin offers: the allowed names, and the plugins that failed to load."""
        failed = (f" Plugin {one.source} may offer it, but failed to load: {one.error}" for one in self.failures)
        return f"there is no {what} called `{name}`. {choices(name, allowed)}{''.join(failed)}"

    def add(
        self,
        kind: str,
        name: str,
        part: type | str,
        *,
        config: type[Config] | None = None,
        aliases: Sequence[str] = (),
    ) -> None:
        """Offer a part under a name.

        Args:
            part: its class, or `"module:Class"` to import it only when it is used
            config: its configuration class; needed for `"module:Class"`, else read from the constructor
            aliases: former names, so that existing YAML files keep working

        Raises:
            PluginError: if the kind is unknown, a name is taken or the configuration class cannot be found
        """
        self.part_kind(kind)
        if isinstance(part, str) and (config is None or ":" not in part):
            raise PluginError(f'{kind} `{name}`: a part named by text needs the form "module:Class" and `config=`')
        if not isinstance(part, type | str):
            raise PluginError(f'{kind} `{name}` must be a class, or text of the form "module:Class", but is {part!r}')
        config = config or config_of(part)  # type: ignore[arg-type]
        origin = self._origin or Origin.of_program(part if isinstance(part, type) else config)
        for called in (name, *aliases):
            taken = self.find(kind, called)
            if taken is not None and (taken.origin, taken.target) != (origin, part):
                raise _offered_twice(f"{kind} `{called}`", taken.origin, origin)
        # Report an error in a third-party configuration when its plugin is loaded, not when the part is first used.
        if origin.source != "ossicle":
            config.model_rebuild()
        self._parts[kind, name] = Part(kind, name, part, config, origin, self, tuple(aliases))

    def add_stage(self, stage: type[Stage]) -> None:
        """Offer a kind of stage.

        Raises:
            PluginError: if the class cannot be a kind of stage, or another kind has its id
        """
        check_kind(stage)
        what = f"stage `{stage.kind}`"
        targets = [target for target in (stage.action, stage.objective_builder) if target is not None]
        origin = self._origin or Origin.of_program(stage, *(load_target(target, f"{what}: ") for target in targets))
        if (taken := self.stage_kinds.setdefault(stage.kind, (stage, origin))) != (stage, origin):
            raise _offered_twice(what, taken[1], origin)

    def origin_of(self, stage: Stage) -> Origin:
        """Return the origin of a stage's kind.

        Raises:
            PluginError: if no plugin offers it
        """
        kind, origin = self.stage_kinds.get(stage.kind, (None, None))
        if kind is not type(stage) or origin is None:
            what = f"`{type(stage).__qualname__}`, the kind of stage `{stage.name}`"
            raise PluginError(f"no plugin offers {what}: mark the class with `@ossicle.stage`")
        return origin

    @contextmanager
    def added_by(self, origin: Origin) -> Iterator[None]:
        """Set `origin` for everything that is added inside the block. If the block fails, none of it is kept."""
        previous, self._origin = self._origin, origin
        before = dict(self._parts), dict(self.part_kinds), dict(self.stage_kinds)
        try:
            yield
        except BaseException:
            self._parts, self.part_kinds, self.stage_kinds = before
            raise
        finally:
            self._origin = previous

    def names(self, kind: str) -> list[str]:
        return sorted(name for part_kind, name in self._parts if part_kind == kind)

    def parts(self, kind: str | None = None) -> list[Part]:
        """List all parts, or those of one kind, ordered by kind and name."""
        chosen = [part for part in self._parts.values() if kind in (None, part.kind)]
        order = list(self.part_kinds)
        return sorted(chosen, key=lambda part: (order.index(part.kind), part.name))

    def find(self, kind: str, name: object) -> Part | None:
        """Return the part of this kind with this name or alias, or None."""
        parts = (part for part in self._parts.values() if part.kind == kind)
        return next((part for part in parts if name in (part.name, *part.aliases)), None)

    def get(self, kind: str, name: str) -> Part:
        """Look a part up by its name or an alias.

        Raises:
            PluginError: if there is no such kind
            UnknownPartError: if there is no part of that name
        """
        self.part_kind(kind)
        part = self.find(kind, name)
        if part is None:
            raise UnknownPartError(self.unknown(kind, name, self.names(kind)))
        return part


def _offered_twice(what: str, one: Origin, other: Origin) -> PluginError:
    both = [one.describe(), other.describe()]
    by = f"twice by {both[0]}" if both[0] == both[1] else f"by {both[0]} and by {both[1]}"
    return PluginError(f"{what} is offered {by}; rename one of them")


def _first_line(documented: object) -> str:
    return "" if isinstance(documented, str) else (inspect.getdoc(documented) or "").partition("\n")[0]


@dataclass(frozen=True)
class Declared:
    """A part or a kind of stage named by a decorator, not yet in a catalog."""

    kind: str
    name: str
    part: type

    @property
    def place(self) -> tuple[str, ...]:
        """A key that is equal each time a notebook cell declares the same part."""
        return self.kind, self.name, self.part.__module__, self.part.__qualname__

    def note(self) -> None:
        """Add it to `declared`, so that every later catalog offers it."""
        declared[:] = [*(old for old in declared if old.place != self.place), self]

    def add_to(self, catalog: Catalog) -> None:
        """Add it to a catalog."""
        if issubclass(self.part, Stage):
            catalog.add_stage(self.part)
        else:
            catalog.add(self.kind, self.name, self.part)


declared: list[Declared] = []
"""What decorators have declared so far in this process. `core.plugin_loading` adds it to a catalog."""


def part(kind: str, name: str) -> Callable[[C], C]:
    """Make a decorator that offers a class as a part of this kind and name.

    Raises:
        PluginError: if the name is missing, or the class has no configuration class
    """
    if not isinstance(name, str):
        raise PluginError(f'name the part: `@ossicle.{kind}("my_{kind}")`')

    def declare(part: C) -> C:
        config_of(part)
        Declared(kind, name, part).note()
        return part

    return declare
