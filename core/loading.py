"""From plugins to a catalog: installed packages, files named in a YAML, and decorators in the running program.

Notable choices: entry points are loaded one by one, because pluggy's own loader dies with the first broken one; a
broken installed plugin is kept as a failure (one warning line), while a broken file that an experiment names stops it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pluggy

from .catalog import Catalog, Origin, PluginFailure, declared
from .errors import PluginError
from .hooks import Hooks

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
    for entry_point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            module = entry_point.load()
            _take_in(plugins, module, _origin_of(entry_point), name=f"{ENTRY_POINT_GROUP}:{entry_point.name}")
        except Exception as error:
            source = f"{_origin_of(entry_point).describe()} ({entry_point.value})"
            plugins.catalog.failures.append(PluginFailure(source, f"{type(error).__name__}: {error}"))
    for path in files:
        _take_in(plugins, import_file(path), Origin.of_file(path), name=str(path))
    for part in list(declared):
        if not any(part.part.__module__ == getattr(module, "__name__", None) for module in _modules(plugins)) and (
            not part.part.__module__.startswith(_FILE_MODULE)
        ):
            plugins.catalog.add(part.kind, part.name, part.part)
    return plugins


def import_file(path: Path) -> ModuleType:
    """Import a Python file as a module of its own; a file that has not changed is imported once.

    Raises:
        PluginError: if the file is missing or its code fails
    """
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
    except Exception as error:
        del sys.modules[name]
        raise PluginError(f"plugin file {path}{_line_in(path, error)}: {type(error).__name__}: {error}") from error
    return module


_FILE_MODULE = "ossicle_plugin_file_"


def _modules(plugins: Plugins) -> list[object]:
    return list(plugins.manager.get_plugins())


def _take_in(plugins: Plugins, module: ModuleType, origin: Origin, *, name: str) -> None:
    """Let one plugin register its parts; on failure nothing of it stays."""
    plugins.manager.register(module, name=name)
    try:
        plugins.manager.check_pending()
        with plugins.catalog.added_by(origin):
            others = [other for other in _modules(plugins) if other is not module]
            plugins.manager.subset_hook_caller("ossicle_register", others)(catalog=plugins.catalog)
            for part in declared:
                if part.part.__module__ == module.__name__:
                    plugins.catalog.add(part.kind, part.name, part.part)
    except pluggy.PluginValidationError as error:
        plugins.manager.unregister(module)
        raise PluginError(f"plugin {origin.describe()}: {error}; hooks are listed in ossicle.core.hooks") from error
    except Exception:
        plugins.manager.unregister(module)
        raise


def _origin_of(entry_point: importlib.metadata.EntryPoint) -> Origin:
    distribution = entry_point.dist
    if distribution is None:
        return Origin(source=entry_point.value)
    return Origin(source=distribution.name, version=distribution.version)


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
