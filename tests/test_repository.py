"""The layout of the repository: imports between folders, packaging, and imports of commands that must start quickly."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "core",
    "audio",
    "encoders",
    "tokenizers",
    "checkpoints",
    "training",
    "tasks",
    "plugins",
    "benchmarks",
    "ossicle",
)
"""The top-level folders with code. Each imports only from those before it."""
PART_FOLDERS = FOLDERS[:-1]
LAYERS = (
    "core",
    "core.config_files",
    "audio",
    "encoders",
    "tokenizers",
    "checkpoints",
    "training",
    "tasks.objectives",
    "tasks.evaluation",
    "tasks.stages",
    "plugins",
    "benchmarks",
)
"""The folders besides `ossicle/`, in the order of `docs/architecture.md`."""


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """The name of a file's module in the package, such as `ossicle.core.store`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if parts[0] == "ossicle" else ("ossicle", *parts))


def layer_of(name: str) -> str | None:
    """The layer that a module belongs to; None for modules of the folder `ossicle/`."""
    inside = name.removeprefix("ossicle.")
    found = [layer for layer in LAYERS if inside == layer or inside.startswith(f"{layer}.")]
    return max(found, key=len, default=None)


def imported(path: Path) -> Iterator[str]:
    """List every module that a file imports, by its absolute name, such as `ossicle.core.store`."""
    package = path.relative_to(ROOT).parent.parts
    package = package if package[0] == "ossicle" else ("ossicle", *package)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_from_folders_before_it(folder: str) -> None:
    known = {module_name(path) for each in FOLDERS for path in modules(each)}
    for path in modules(folder):
        own = layer_of(module_name(path))
        for name in imported(path):
            if own is None or name not in known or name == "ossicle":
                continue
            layer = layer_of(name)
            assert layer is not None, f"{path} imports {name} of the folder ossicle/"
            assert LAYERS.index(layer) <= LAYERS.index(own), f"{path} imports {name}"


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_documentation_states_the_order_of_the_folders(page: str) -> None:
    text = (ROOT / page).read_text()
    paragraph = text[text.index("`core` →") :].partition("\n\n")[0]
    stated = re.findall(r"`([a-z_/]+)`", paragraph)
    assert stated == [*(layer.replace(".", "/") for layer in LAYERS), "ossicle"]


def package_of(name: str) -> str:
    """The folder of a module: its layer, or its sub-package of `ossicle/`."""
    return layer_of(name) or ".".join(name.split(".")[:2])


def test_folders_do_not_import_each_other_in_a_cycle() -> None:
    paths = {module_name(path): path for folder in FOLDERS for path in modules(folder)}
    needs: dict[str, set[str]] = {}
    for name, path in paths.items():
        targets = {package_of(target) for target in imported(path) if target in paths and target != "ossicle"}
        needs.setdefault(package_of(name), set()).update(targets - {package_of(name)})
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the folders


def test_the_core_stays_small() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "core").glob("*.py"))
    assert lines <= 3660, f"core/ has {lines} lines; move code for single algorithms or data sets out of it"


def test_only_the_engine_imports_the_trainer() -> None:
    for folder in FOLDERS:
        for path in modules(folder):
            if path != ROOT / "training" / "engine.py":
                heavy = [name for name in imported(path) if name.startswith(("fairseq2.trainer", "fairseq2.recipe"))]
                assert not heavy, f"{path} imports {heavy}"


@pytest.mark.parametrize("folder", PART_FOLDERS)
def test_part_folders_do_not_hide_other_packages(folder: str) -> None:
    assert not list((ROOT / folder).rglob("__init__.py"))


def test_hugging_face_tokenizers_can_be_imported_from_the_root() -> None:
    code = "import tokenizers; assert hasattr(tokenizers, 'Tokenizer'), tokenizers.__path__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_folder_with_code_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {ROOT / place for place in settings["package-dir"].values()}
    inside = {package for package in settings["packages"] if (ROOT / package.replace(".", "/")).is_dir()} - {"ossicle"}
    packaged |= {ROOT / package.replace(".", "/") for package in inside}
    for folder in FOLDERS:
        for path in modules(folder):
            assert path.parent in packaged, f"{path.parent} is missing from pyproject.toml"
    for preset in (ROOT / "presets").rglob("*.yaml"):
        assert preset.parent in packaged, f"{preset.parent} is missing from pyproject.toml"
    assert set(settings["packages"]) - inside == set(settings["package-dir"])


HEAVY = {"torch", "fairseq2", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "jinja2", "numba", "torchaudio"}
FORBIDDEN = {
    "--help": HEAVY | {"numpy", "pydantic", "pydantic_core", "yaml", "rich", "pluggy", "soundfile"},
    "plugins": HEAVY | {"numpy", "rich", "soundfile", "soxr", "multiprocessing"},
    "check experiments/quickstart.yaml": HEAVY
    | {"numpy", "rich", "soxr", "multiprocessing", "concurrent.futures", "ossicle.core.stage_runner"},
}


@pytest.mark.parametrize("command", FORBIDDEN)
def test_light_commands_import_nothing_heavy(command: str) -> None:
    code = (
        "import sys; from ossicle.cli import main\n"
        f"try: main({command.split()!r})\n"
        "except SystemExit: pass\n"
        f"heavy = {FORBIDDEN[command]!r} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("command", "collects"), [("check", False), ("plugins", False), ("run", True)])
def test_short_commands_collect_no_garbage(command: str, collects: bool) -> None:
    code = (
        f"import gc, sys; sys.argv = ['ossicle', {command!r}]\n"
        "from ossicle import __main__ as program\n"
        "program.main = gc.isenabled\n"
        "was_collecting = program.start()\n"
        f"assert was_collecting is {collects}\n"
        f"assert bool(gc.get_freeze_count()) is not {collects}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
