"""`ossicle new tokenizer`: the new project works without changes, and existing files are never changed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from ossicle.cli import main
from ossicle.core.errors import OssicleError
from ossicle.core.plugin_loading import import_file
from ossicle.scaffold import TEMPLATES, module_name, new_tokenizer
from ossicle.testing import TokenizerContract

pytestmark = pytest.mark.usefixtures("own_plugins")

ROOT = Path(__file__).parents[2]
LINES = 30
"""Upper limit for the lines of a small tokenizer."""


def test_the_command_writes_a_project_and_lists_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "tokenizer", "Loud Bands"]) == 0
    shown = capsys.readouterr()
    written = ["README.md", "ablation.yaml", "loud_bands.py", "pyproject.toml", "test_loud_bands.py"]
    assert shown.out.splitlines() == [f"loud_bands/{name}" for name in written]
    assert shown.err == "loud_bands/README.md lists the commands\n"
    assert sorted(path.name for path in (tmp_path / "loud_bands").iterdir()) == written
    assert len(written) == len(list(TEMPLATES.iterdir()))


def test_a_missing_parent_folder_is_created(tmp_path: Path) -> None:
    assert main(["new", "tokenizer", "mine", "--into", str(tmp_path / "parts" / "tokenizers")]) == 0
    assert (tmp_path / "parts" / "tokenizers" / "mine" / "mine.py").is_file()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_tokenizer("loud_bands", tmp_path_factory.mktemp("projects"))


class TestNewTokenizer(TokenizerContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, project: Path) -> None:
        self.tokenizer = import_file(project / "loud_bands.py").LoudBands


def test_the_tokenizer_is_small_and_the_files_are_clean(project: Path) -> None:
    assert len((project / "loud_bands.py").read_text().splitlines()) < LINES
    rules = ["--isolated", "--no-cache", "--line-length", "120"]
    for check in (["check", "--select", "E,F,I,B,UP,SIM,RUF,N"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, *rules, "."]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_files_contain_no_paths_of_this_machine(project: Path) -> None:
    for path in filter(Path.is_file, project.iterdir()):
        text = path.read_text()
        assert str(ROOT) not in text
        assert str(project.parent) not in text
        assert not [mark for mark in ("{{", "://", "/home/", "/tmp/") if mark in text]


def test_the_project_offers_the_module_and_ablates_it(project: Path) -> None:
    packaging = tomllib.loads((project / "pyproject.toml").read_text())
    assert packaging["project"]["entry-points"]["ossicle"] == {"loud_bands": "loud_bands"}
    assert packaging["project"]["dependencies"] == ["ossicle"]
    ablation = yaml.safe_load((project / "ablation.yaml").read_text())
    variants = ablation["vary"]["tokenizer"]
    assert list(variants) == ["random projection", "loud_bands", "position"]
    assert variants["loud_bands"] == {"schedule.tokenizer": "loud_bands"}
    assert [name for name, patch in variants.items() if patch.get("control")] == ["position"]
    assert ablation["compare"]["baseline"] == "random projection"
    assert len(ablation["seeds"]) >= 3


@pytest.mark.parametrize(
    ("name", "module"), [("mine", "mine"), ("Loud-Bands", "loud_bands"), (" k means 2 ", "k_means_2"), ("a__b", "a__b")]
)
def test_names_become_modules(name: str, module: str) -> None:
    assert module_name(name) == module


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("3d", "must begin with a letter"),
        ("", "but is ``"),
        ("../up", r"but is `\.\./up`"),
        ("größe", "letters from a to z"),
        ("a.b", r"but is `a\.b`"),
        ("class", "must not be a reserved word of Python or YAML, such as `my_tokenizer`, but is `class`"),
        ("Null", "but is `Null`"),
        ("json", "a Python module called `json` already exists: give your tokenizer another name"),
        ("sys", "a Python module called `sys` already exists"),
        ("torch", "a Python module called `torch` already exists"),
        ("random-projection", "a tokenizer called `random_projection` already exists, from ossicle"),
    ],
)
def test_invalid_names(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(OssicleError, match=message):
        new_tokenizer(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_existing_files_are_not_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = new_tokenizer("mine", tmp_path) / "mine.py"
    module.write_text("weeks of work")
    assert main(["new", "tokenizer", "mine", "--into", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / 'mine'} already exists: give another name, or another folder with --into\n"
    )
    assert module.read_text() == "weeks of work"
    assert main(["new", "tokenizer", "other", "--into", str(module)]) == 2
    assert capsys.readouterr().err == f"{module / 'other'} cannot be written: Not a directory\n"


def test_another_kind_of_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["new", "cochlea", "mine"])
    assert "invalid choice: 'cochlea' (choose from" in capsys.readouterr().err


def test_the_templates_are_packaged() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = ROOT / "ossicle" / "scaffold"
    packaged = {path for pattern in settings["package-data"]["ossicle.scaffold"] for path in folder.glob(pattern)}
    assert packaged == set(TEMPLATES.iterdir())
