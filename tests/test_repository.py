"""What the layout of the repository promises: which room imports which, what is packaged, what start-up costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("core", "audio", "encoders", "tokenizers", "tasks", "plugins", "benchmarks", "ossicle")
PART_FOLDERS = ROOMS[:-1]


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, with relative imports made absolute, as `ossicle.room.…`."""
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


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_those_above_it_alone(room: str) -> None:
    below = ROOMS[ROOMS.index(room) + 1 : -1]
    for path in modules(room):
        for name in imported(path):
            parts = name.split(".")
            assert not (parts[0] == "ossicle" and len(parts) > 1 and parts[1] in below), f"{path} imports {name}"
            if room != "ossicle":
                front_door = parts[0] == "ossicle" and len(parts) > 1 and parts[1] not in (*ROOMS[:-1], "__version__")
                assert not front_door, f"{path} imports {name} of the front door"


def test_only_the_engine_knows_the_trainer() -> None:
    for room in ROOMS:
        for path in modules(room):
            if path != ROOT / "core" / "engine.py":
                heavy = [name for name in imported(path) if name.startswith(("fairseq2.trainer", "fairseq2.recipe"))]
                assert not heavy, f"{path} imports {heavy}"


@pytest.mark.parametrize("room", PART_FOLDERS)
def test_part_folders_do_not_hide_other_packages(room: str) -> None:
    assert not list((ROOT / room).rglob("__init__.py"))


def test_hugging_face_tokenizers_is_found_from_the_root() -> None:
    code = "import tokenizers; assert hasattr(tokenizers, 'Tokenizer'), tokenizers.__path__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_folder_with_code_is_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = {ROOT / folder for folder in settings["package-dir"].values()}
    inside = {package for package in settings["packages"] if (ROOT / package.replace(".", "/")).is_dir()} - {"ossicle"}
    packaged |= {ROOT / package.replace(".", "/") for package in inside}
    for room in ROOMS:
        for path in modules(room):
            assert path.parent in packaged, f"{path.parent} is missing from pyproject.toml"
    for preset in (ROOT / "presets").rglob("*.yaml"):
        assert preset.parent in packaged, f"{preset.parent} is missing from pyproject.toml"
    assert set(settings["packages"]) - inside == set(settings["package-dir"])


HEAVY = {"torch", "fairseq2", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "jinja2", "numba", "torchaudio"}
FORBIDDEN = {
    "--help": HEAVY | {"numpy", "pydantic", "pydantic_core", "yaml", "rich", "pluggy", "soundfile"},
    "plugins": HEAVY | {"numpy", "rich", "soundfile", "soxr"},
    "check experiments/quickstart.yaml": HEAVY | {"rich", "soxr"},
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
