"""From plugins to a catalog: installed packages, files named in a YAML, and decorators in the running program.

Notable choices: entry points are loaded one by one, because pluggy's own loader dies with the first broken one; a
broken installed plugin is kept as a failure (one warning line), while a broken file that an experiment names stops it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pluggy

from .catalog import Catalog, Origin, PluginFailure, declared
from .errors import OssicleError, PluginError
from .hooks import HOOKS, Hooks
from .wording import choices

ENTRY_POINT_GROUP = "ossicle"


@dataclass
class Plugins:
    """The plugins of this program: their hooks, and the catalog of the parts they offer."""

    manager: pluggy.PluginManager
    catalog: Catalog


def load_plugins(files: Sequence[Path] = ()) -> Plugins:
    """Gather every part on offer.

    Args:
        files: Python files to take as plugins besides the installed ones

    Raises:
        PluginError: if one of `files` cannot be loaded, or a part declared in the running program is unfit
    """
    plugins = Plugins(pluggy.PluginManager("ossicle"), Catalog())
    plugins.manager.add_hookspecs(Hooks)
    installed = sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name)
    for entry_point in installed:
        origin = _origin_of(entry_point)
        try:
            name = f"{origin.source}:{entry_point.name}"
            _take_in(plugins, entry_point.load(), origin, name=name, package=_package(entry_point.module))
        except (Exception, SystemExit) as error:
            source = f"{origin.describe()} ({entry_point.value})"
            plugins.catalog.failures.append(PluginFailure(source, _told(error)))
    for path in {path.resolve(): path.absolute() for path in files}.values():
        module = import_file(path)
        try:
            _take_in(plugins, module, Origin.of_file(path), name=str(path), package=module.__name__)
        except (Exception, SystemExit) as error:
            raise _failed(path, error) from error
    elsewhere = {_package(entry_point.module) for entry_point in installed}
    for part in list(declared):
        package = _package(part.part.__module__)
        if package not in elsewhere and not package.startswith(_FILE_MODULE):
            plugins.catalog.add(part.kind, part.name, part.part)
    return plugins


def import_file(path: Path) -> ModuleType:
    """Import a Python file as a module of its own; a file that has not changed is imported once.

    Raises:
        PluginError: if the file is missing or its code fails
    """
    path = path.absolute()
    if not path.is_file():
        raise PluginError(f"plugin file {path} does not exist")
    digest = hashlib.sha256(str(path.resolve()).encode() + path.read_bytes()).hexdigest()[:16]
    name = f"{_FILE_MODULE}{path.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin file {path} must be a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    # Type hints of the module's classes are looked up through sys.modules.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(path, error) from error
    return module


_FILE_MODULE = "ossicle_plugin_file_"


def _package(module: str) -> str:
    """The top-level package of a module: what a plugin declares anywhere inside is its own."""
    return module.partition(".")[0]


def _take_in(plugins: Plugins, plugin: object, origin: Origin, *, name: str, package: str) -> None:
    """Let one plugin register its parts; on failure nothing of it stays."""
    manager = plugins.manager
    if manager.is_registered(plugin):
        return
    _check_hooks(manager, plugin)
    try:
        manager.register(plugin, name=name)
        own = [part for part in declared if _package(part.part.__module__) == package]
        if not own and not manager.get_hookcallers(plugin):
            raise PluginError(
                'it offers nothing: mark a part with `@ossicle.tokenizer("name")` or its like, or a hook with '
                "`@ossicle.hookimpl`"
            )
        with plugins.catalog.added_by(origin):
            others = [other for other in manager.get_plugins() if other is not plugin]
            manager.subset_hook_caller("ossicle_register", others)(catalog=plugins.catalog)
            for part in own:
                plugins.catalog.add(part.kind, part.name, part.part)
    except BaseException:
        if manager.is_registered(plugin):
            manager.unregister(plugin)
        raise


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse misspelt hooks and unmarked ones, which would never be called."""
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
    """Kept, because each of the two reads all that an installed package says of itself, its README too."""
    return distribution.name, distribution.version


def _is_editable(distribution: importlib.metadata.Distribution) -> bool:
    """Whether its code may change under one version. Ossicle's own parts say so by a revision."""
    stated = json.loads(distribution.read_text("direct_url.json") or "{}")
    # `PKG-INFO` is metadata that setuptools leaves beside the code, and that Python finds first when it starts there.
    beside_code = distribution.read_text("PKG-INFO") is not None
    return beside_code or bool(stated.get("dir_info", {}).get("editable", False))


def _digest_of(package: str) -> str:
    """The hash of a package's code, or of a module's."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    if spec and spec.origin and not folders:
        files = [Path(spec.origin)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _failed(path: Path, error: BaseException) -> PluginError:
    return PluginError(f"plugin file {path}{_line_in(path, error)}: {_told(error)}")


def _told(error: BaseException) -> str:
    """An error in one line; our own need no class name before them."""
    text = str(error) if isinstance(error, OssicleError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _line_in(path: Path, error: BaseException) -> str:
    """The line of `path` at which an error arose, as `:line`."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f":{lines[-1]}" if lines else ""
