"""Load plugins into a catalog: installed packages, files named in a YAML, and decorators in the running program.

Notable choices:

- Entry points are loaded one by one, because pluggy's own loader stops at the first broken one.
- A broken installed plugin is recorded as a failure, which gives one line of warning. A broken file that an experiment
  names is an error.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pluggy

from . import part_kinds
from .catalog import Catalog, Declared, Origin, PluginFailure, declared
from .errors import OssicleError, PluginError
from .hooks import HOOKS, Hooks
from .wording import choices

ENTRY_POINT_GROUP = "ossicle"


@dataclass
class Plugins:
    """The plugins of this program: their hooks, and the catalog of the parts they offer."""

    manager: pluggy.PluginManager
    catalog: Catalog


@dataclass(frozen=True)
class _Source:
    """A plugin on its way into the catalog.

    Attributes:
        name: identifies the plugin in the plugin manager and in warnings
        package: top-level package of the plugin; classes that decorators mark anywhere inside it belong to the plugin
        load: returns the module or object with the hooks
        file: path of a plugin file; None for an installed plugin
    """

    origin: Origin
    name: str
    package: str
    load: Callable[[], object]
    file: Path | None = None


def load_plugins(files: Sequence[Path] = ()) -> Plugins:
    """Load all plugins and collect their parts in a catalog.

    Args:
        files: Python files to load as plugins, in addition to the installed ones

    Raises:
        PluginFileError: if one of `files` cannot be loaded
        PluginError: if a part declared in the running program violates the interface
    """
    plugins = Plugins(pluggy.PluginManager("ossicle"), Catalog())
    plugins.manager.add_hookspecs(Hooks)
    core = Origin(*_name_and_version(importlib.metadata.distribution("ossicle")))
    installed = sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    sources = [_Source(core, part_kinds.__name__, "", lambda: part_kinds), *map(_installed, installed)]
    elsewhere = {source.package for source in sources}
    sources += map(_of_file, {path.resolve(): path.absolute() for path in files}.values())
    # All kinds are registered before all parts, so the order of the plugins does not matter.
    for step in (_register_kinds, _register_parts):
        sources = [source for source in sources if _succeeds(step, plugins, source)]
    for part in declared:
        package = _package(part.part.__module__)
        if package not in elsewhere and not package.startswith(_FILE_MODULE):
            part.add_to(plugins.catalog)
    return plugins


def _installed(entry_point: importlib.metadata.EntryPoint) -> _Source:
    origin = _origin_of(entry_point)
    name = f"{origin.describe()} ({entry_point.value})"
    return _Source(origin, name, _package(entry_point.module), entry_point.load)


def _of_file(path: Path) -> _Source:
    module = import_file(path)
    return _Source(Origin.of_file(path), str(path), module.__name__, lambda: module, path)


def _succeeds(step: Callable[[Plugins, _Source], None], plugins: Plugins, source: _Source) -> bool:
    """Run one step of loading a plugin, and return whether it succeeds. If it fails, nothing that it added is kept."""
    try:
        with plugins.catalog.added_by(source.origin):
            step(plugins, source)
    except (Exception, SystemExit) as error:
        if plugins.manager.has_plugin(source.name):
            plugins.manager.unregister(name=source.name)
        if source.file is not None:
            raise _failed(source.file, error) from error
        plugins.catalog.failures.append(PluginFailure(source.name, _in_one_line(error)))
        return False
    return True


def _register_kinds(plugins: Plugins, source: _Source) -> None:
    manager, plugin = plugins.manager, source.load()
    if manager.is_registered(plugin):
        return
    _check_hooks(manager, plugin)
    manager.register(plugin, name=source.name)
    if not _decorated(source) and not manager.get_hookcallers(plugin):
        raise PluginError(
            'it offers nothing: mark a part with a decorator such as `@ossicle.tokenizer("name")`, or a hook with '
            "`@ossicle.hookimpl`"
        )
    _call("ossicle_register_part_kinds", plugins, source)


def _register_parts(plugins: Plugins, source: _Source) -> None:
    if plugins.manager.has_plugin(source.name):
        _call("ossicle_register", plugins, source)
        for part in _decorated(source):
            part.add_to(plugins.catalog)


def _decorated(source: _Source) -> list[Declared]:
    return [part for part in declared if _package(part.part.__module__) == source.package]


def _call(hook: str, plugins: Plugins, source: _Source) -> None:
    """Call a hook of one plugin only."""
    manager = plugins.manager
    others = [other for other in manager.get_plugins() if other is not manager.get_plugin(source.name)]
    manager.subset_hook_caller(hook, others)(catalog=plugins.catalog)


class PluginFileError(PluginError):
    """A plugin file that cannot be loaded. The arguments are the message and the path."""

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def path(self) -> Path:
        return Path(self.args[1])


def import_file(path: Path) -> ModuleType:
    """Import a Python file as a separate module. A file that has not changed is imported once.

    Raises:
        PluginFileError: if the file is missing or its code fails
    """
    path = path.absolute()
    if not path.is_file():
        raise PluginFileError(f"plugin file {path} does not exist", path)
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:16]
    name = f"{_FILE_MODULE}{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginFileError(f"plugin file {path} must be a Python file (.py)", path)
    module = importlib.util.module_from_spec(spec)
    # Python looks up the type hints of the module's classes through sys.modules.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(path, error) from error
    return module


_FILE_MODULE = "ossicle_plugin_file_"


def _package(module: str) -> str:
    """Return the top-level package of a module."""
    return module.partition(".")[0]


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse misspelt and unmarked hooks, which would never be called.

    Raises:
        PluginError: if the plugin has one
    """
    for name in dir(plugin):
        marked = manager.parse_hookimpl_opts(plugin, name)
        if marked is None and name in HOOKS:
            raise PluginError(f"`{name}` would never be called: mark it with `@ossicle.hookimpl`")
        hook = (marked and marked.get("specname")) or name
        if marked is not None and hook not in HOOKS:
            raise PluginError(f"there is no hook `{hook}`. {choices(hook, HOOKS)}")


def _origin_of(entry_point: importlib.metadata.EntryPoint) -> Origin:
    distribution = entry_point.dist
    if distribution is None:
        return Origin(source=entry_point.value)
    name, version = _name_and_version(distribution)
    if name != "ossicle" and _is_editable(distribution):
        version = f"{version} sha256:{_digest_of(_package(entry_point.module))}"
    return Origin(source=name, version=version)


@functools.cache
def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    # Cached, because each of the two properties parses all metadata of the package, including its README.
    return distribution.name, distribution.version


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    """Return whether the code can change while the version stays the same.

    This is not used for Ossicle itself, whose parts have revisions.
    """
    stated = json.loads(distribution.read_text("direct_url.json") or "{}")
    # setuptools leaves the metadata file `PKG-INFO` next to the code, where Python finds it first if it starts there.
    beside_code = distribution.read_text("PKG-INFO") is not None
    return beside_code or bool(stated.get("dir_info", {}).get("editable", False))


def _digest_of(package: str) -> str:
    """Compute the hash of the code of a package or module."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    if spec and spec.origin and not folders:
        files = [Path(spec.origin)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _failed(path: Path, error: BaseException) -> PluginFileError:
    return PluginFileError(f"plugin file {path}{_line_in(path, error)}: {_in_one_line(error)}", path)


def _in_one_line(error: BaseException) -> str:
    """Format an error as one line. Errors of Ossicle are shown without the name of their class."""
    text = str(error) if isinstance(error, OssicleError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _line_in(path: Path, error: BaseException) -> str:
    """Return the line of `path` that raised an error as `:line`, or an empty text if there is none."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f":{lines[-1]}" if lines else ""
