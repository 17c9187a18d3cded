"""The catalog of parts: what there is of each kind, under which name, and where it came from.

Notable choices: a part is added by its class, or by `"module:Class"` together with its configuration class, so that
listing and checking need not import torch; two plugins may not claim one name.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from .config import Config
from .errors import OssicleError, PluginError
from .wording import choices

KINDS = ("corpus", "front_end", "encoder", "tokenizer", "head", "objective", "masking", "schedule", "task", "launcher")

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Origin:
    """Where a part came from: a distribution and its version, a file and its hash, or the running program."""

    source: str
    version: str = ""
    path: str | None = None

    def describe(self) -> str:
        return f"{self.source} {self.version}".strip()

    def fingerprint(self) -> str:
        """Changes when the part's code may have changed; a file's place does not enter."""
        return f"{Path(self.source).name if self.path else self.source} {self.version}"

    @classmethod
    def of_file(cls, path: Path) -> Origin:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return cls(source=path.name, version=f"sha256:{digest}", path=str(path))

    @classmethod
    def of_program(cls, part: type) -> Origin:
        """The origin of a class that a notebook or script defines."""
        try:
            digest = hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:16]
        except (OSError, TypeError) as error:
            raise PluginError(
                f"the source of `{part.__qualname__}` cannot be read, so its results could not be told from those of "
                "another version; define it in a file or a notebook cell"
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
        """Import the part's class, or the function that makes it.

        Raises:
            PluginError: if what the plugin named cannot be imported or called
        """
        if isinstance(self.target, type):
            return self.target
        module, _, name = self.target.partition(":")
        try:
            loaded = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise PluginError(f"{self.kind} `{self.name}` of {self.origin.describe()}: {error}") from error
        if not callable(loaded):
            raise PluginError(f"{self.kind} `{self.name}` of {self.origin.describe()}: `{self.target}` is no class")
        made: Callable[..., Any] = loaded
        return made

    @property
    def summary(self) -> str:
        """The first line of the part's documentation."""
        documented = self.config if isinstance(self.target, str) else self.target
        return (inspect.getdoc(documented) or "").partition("\n")[0]


class UnknownPartError(OssicleError):
    """A name that no plugin has claimed."""


@dataclass(frozen=True)
class PluginFailure:
    """A plugin that could not be loaded: whatever it offers is missing from the catalog."""

    source: str
    error: str


def config_of(part: type) -> type[Config]:
    """Read a part's configuration class off the annotated first argument of its constructor.

    Raises:
        PluginError: if there is none
    """
    wanted = f"the first argument of `{part.__qualname__}.__init__` must be annotated with a subclass of ossicle.Config"
    constructor = vars(part).get("__init__") or part.__init__  # type: ignore[misc]
    parameters = list(inspect.signature(constructor).parameters.values())
    if len(parameters) < 2 or parameters[1].annotation is inspect.Parameter.empty:
        raise PluginError(wanted)
    annotation = parameters[1].annotation
    if isinstance(annotation, str):
        # Only this one annotation is evaluated: the others may name types that are imported for type checkers alone.
        try:
            annotation = eval(annotation, getattr(constructor, "__globals__", {}))
        except Exception as error:
            raise PluginError(f"{wanted} ({error})") from error
    if not (isinstance(annotation, type) and issubclass(annotation, Config)):
        raise PluginError(f"{wanted}, but is annotated with `{annotation}`")
    return annotation


@dataclass
class Catalog:
    """All parts on offer, by kind and name.

    Attributes:
        failures: plugins that could not be loaded
    """

    failures: list[PluginFailure] = field(default_factory=list)
    _parts: dict[tuple[str, str], Part] = field(default_factory=dict)
    _origin: Origin | None = None

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
            config: its configuration class; needed for `"module:Class"`, else read off the constructor
            aliases: former names, so that existing YAML files keep working

        Raises:
            PluginError: if the kind is unknown, a name is taken or the configuration class cannot be found
        """
        if kind not in KINDS:
            raise PluginError(f"there is no kind of part called `{kind}`; allowed: {', '.join(KINDS)}")
        if isinstance(part, str) and (config is None or ":" not in part):
            raise PluginError(f'{kind} `{name}`: a part named by text needs the form "module:Class" and `config=`')
        if not isinstance(part, type | str):
            raise PluginError(f'{kind} `{name}` must be a class, or text of the form "module:Class", but is {part!r}')
        config = config or config_of(part)  # type: ignore[arg-type]
        origin = self._origin or Origin.of_program(part if isinstance(part, type) else config)
        for called in (name, *aliases):
            taken = self.find(kind, called)
            if taken is not None and (taken.origin, taken.target) != (origin, part):
                both = [taken.origin.describe(), origin.describe()]
                by = f"twice by {both[0]}" if both[0] == both[1] else f"by {both[0]} and by {both[1]}"
                raise PluginError(f"{kind} `{called}` is offered {by}; rename one of them")
        # An error in a third-party configuration shows with its plugin, not when the part is first used.
        if origin.source != "ossicle":
            config.model_rebuild()
        self._parts[kind, name] = Part(kind, name, part, config, origin, self, tuple(aliases))

    @contextmanager
    def added_by(self, origin: Origin) -> Iterator[None]:
        """Note `origin` as the source of everything added inside the block; if it fails, nothing of it stays."""
        previous, self._origin = self._origin, origin
        parts = dict(self._parts)
        try:
            yield
        except BaseException:
            self._parts = parts
            raise
        finally:
            self._origin = previous

    def names(self, kind: str) -> list[str]:
        return sorted(name for part_kind, name in self._parts if part_kind == kind)

    def parts(self, kind: str | None = None) -> list[Part]:
        """All parts, or those of one kind, ordered by kind and name."""
        chosen = [part for part in self._parts.values() if kind in (None, part.kind)]
        return sorted(chosen, key=lambda part: (KINDS.index(part.kind), part.name))

    def find(self, kind: str, name: object) -> Part | None:
        """The part of this kind with this name or alias, if there is one."""
        parts = (part for part in self._parts.values() if part.kind == kind)
        return next((part for part in parts if name in (part.name, *part.aliases)), None)

    def get(self, kind: str, name: str) -> Part:
        """Look a part up by its name or an alias.

        Raises:
            UnknownPartError: if there is none of that kind and name
        """
        part = self.find(kind, name)
        if part is None:
            raise UnknownPartError(f"there is no {kind} called `{name}`. {choices(name, self.names(kind))}")
        return part


@dataclass(frozen=True)
class Declared:
    """A part named by a decorator, not yet in a catalog."""

    kind: str
    name: str
    part: type


declared: list[Declared] = []
"""Parts that decorators have named so far in this process; `core.plugin_loading` hands them to a catalog."""


def _decorator(kind: str) -> Callable[[str], Callable[[C], C]]:
    def named(name: str) -> Callable[[C], C]:
        if not isinstance(name, str):
            raise PluginError(f'name the part: `@ossicle.{kind}("my_{kind}")`')

        def declare(part: C) -> C:
            config_of(part)
            same = Declared(kind, name, part)
            # Running a notebook cell again replaces what it declared before.
            declared[:] = [
                old
                for old in declared
                if (old.kind, old.name, old.part.__module__, old.part.__qualname__)
                != (kind, name, part.__module__, part.__qualname__)
            ]
            declared.append(same)
            return part

        return declare

    named.__doc__ = f"Offer the decorated class as a {kind.replace('_', ' ')} of this name."
    return named


corpus = _decorator("corpus")
front_end = _decorator("front_end")
encoder = _decorator("encoder")
tokenizer = _decorator("tokenizer")
head = _decorator("head")
objective = _decorator("objective")
masking = _decorator("masking")
schedule = _decorator("schedule")
task = _decorator("task")
launcher = _decorator("launcher")
