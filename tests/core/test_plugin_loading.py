"""Loading plugins from packages, files and decorators, and the errors of broken ones."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import Program

from ossicle.cli import main
from ossicle.core.build import build
from ossicle.core.catalog import PluginFailure
from ossicle.core.choices import PartChoice
from ossicle.core.data import Grid, PatchBatch
from ossicle.core.errors import PluginError
from ossicle.core.interfaces import Tokenizer
from ossicle.core.plugin_loading import load_plugins

pytestmark = pytest.mark.usefixtures("own_plugins")

EXAMPLE = Path(__file__).parents[2] / "examples" / "sign_hash.py"
Install = Callable[..., None]


def plugin(name: str, *, hook: str = "ossicle_register", arguments: str = "catalog", body: str = "") -> str:
    """Write the code of a plugin that offers a tokenizer."""
    return (
        "import ossicle\n"
        "class Settings(ossicle.Config):\n"
        "    bits: int = 2\n"
        "class Mine:\n"
        f"    '''The tokenizer {name}.'''\n"
        "    def __init__(self, config: Settings) -> None: ...\n"
        "@ossicle.hookimpl\n"
        f"def {hook}({arguments}):\n"
        f"    {body or f'catalog.add(`tokenizer`, `{name}`, Mine)'.replace('`', chr(34))}\n"
    )


def decorated(name: str) -> str:
    return EXAMPLE.read_text().replace('"sign_hash"', f'"{name}"')


def test_a_file_offers_its_parts() -> None:
    catalog = load_plugins([EXAMPLE]).catalog
    part = catalog.get("tokenizer", "sign_hash")
    assert part.origin.source == "sign_hash.py"
    assert part.origin.path == str(EXAMPLE)
    assert "sign_hash" not in load_plugins().catalog.names("tokenizer"), "a file must not affect later catalogs"


def test_a_file_named_twice_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parent)
    catalog = load_plugins([EXAMPLE, Path("sign_hash.py"), EXAMPLE.parent / "../examples/sign_hash.py"]).catalog
    assert catalog.names("tokenizer").count("sign_hash") == 1


def test_an_edited_file_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(decorated("first"))
    before = load_plugins([file]).catalog
    file.write_text(decorated("second"))
    after = load_plugins([file]).catalog
    assert "first" in before.names("tokenizer")
    assert {"first", "second"} & set(after.names("tokenizer")) == {"second"}


BROKEN_FILES = [
    ("import ossicle\n\nraise ValueError('no')\n", ":3: ValueError: no"),
    ("import nowhere_to_be_found\n", ":1: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    ("def broken(:\n", ":1: SyntaxError: invalid syntax"),
    ("import sys\nsys.exit(3)\n", ":2: SystemExit: 3"),
    (plugin("mine", body="catalog.ad('tokenizer')"), ":9: AttributeError: 'Catalog' object has no attribute 'ad'"),
    (plugin("mine", body="raise SystemExit('bye')"), ":9: SystemExit: bye"),
    (plugin("random_projection"), ":9: tokenizer `random_projection` is offered by ossicle "),
    (
        plugin("mine", hook="ossicle_regster"),
        ": there is no hook `ossicle_regster`. Did you mean `ossicle_register`? All",
    ),
    (plugin("mine", arguments="catalogue", body="pass"), ": PluginValidationError: Plugin "),
    (plugin("mine").replace("@ossicle.hookimpl\n", ""), ": `ossicle_register` would never be called: mark it with `@"),
    ("import ossicle\n", ": it offers nothing: mark a part with a decorator such as `@ossicle.tokenizer("),
    ("import ossicle\n@ossicle.tokenizer('x')\nclass X:\n    pass\n", ":2: the first argument of `X.__init__` must be"),
]


@pytest.mark.parametrize(("code", "message"), BROKEN_FILES, ids=[message[:40] for _, message in BROKEN_FILES])
def test_a_broken_file_is_reported_with_its_line(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "mine.py", Path("mine.py")):
        with pytest.raises(PluginError) as caught:
            load_plugins([path])
        assert str(caught.value).startswith(f"plugin file {tmp_path / 'mine.py'}{message}")
        assert "\n" not in str(caught.value)
    names = load_plugins().catalog.names("tokenizer")
    assert "mine" not in names
    assert "random_projection" in names


def test_a_broken_file_stops_the_run(tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(plugin("mine", body="raise ValueError('no')"))
    tiny.write_text(f"plugins: [./mine.py]\n{tiny.read_text()}")
    assert main(["run", str(tiny), "--out", str(tmp_path / "runs")]) == 2
    reported = capsys.readouterr().err
    assert reported == f"{tiny}:1:11: plugin file {tmp_path / 'mine.py'}:9: ValueError: no\n"
    assert not (tmp_path / "runs").exists()


BROKEN_PACKAGES = {
    "fake_import": ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    "fake_exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "fake_hook": (
        plugin("x", hook="ossicle_regster"),
        "there is no hook `ossicle_regster`. Did you mean `ossicle_regis",
    ),
    "fake_arguments": (
        plugin("x", arguments="catalogue", body="pass"),
        "PluginValidationError: Plugin 'fake_arguments 1.0 (",
    ),
    "fake_claim": (plugin("sound"), "tokenizer `sound` is offered by fake_a 1.0 and by fake_claim 1.0; rename one of"),
    "fake_claim_too": (decorated("sound"), "tokenizer `sound` is offered by fake_a 1.0 and by fake_claim_too 1.0; ren"),
}


def test_each_broken_installed_plugin_gives_one_line(
    install: Install, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("fake_a", plugin("sound"))
    for name, (code, _) in BROKEN_PACKAGES.items():
        install(name, code)
    assert main(["plugins"]) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == len(BROKEN_PACKAGES)
    for name, (_, message) in BROKEN_PACKAGES.items():
        assert any(line.startswith(f"warning: plugin {name} 1.0 ({name}) failed: {message}") for line in lines), name
    assert [line.split() for line in shown.out.splitlines() if "fake_a" in line] == [
        ["tokenizer", "sound", "fake_a", "1.0", "The", "tokenizer", "sound."]
    ]

    assert main(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {failure["source"] for failure in listed["failures"]} == {f"{name} 1.0 ({name})" for name in BROKEN_PACKAGES}
    assert {"kind", "name", "aliases", "origin", "summary"} == set(listed["parts"][0])

    assert main(["check", str(tiny)]) == 0
    assert capsys.readouterr().err.count("warning: plugin fake_") == len(BROKEN_PACKAGES)
    assert main(["check", str(tiny), "schedule.iterations.0.tokenizer=x"]) == 2
    reported = capsys.readouterr().err
    allowed = ", ".join(load_plugins().catalog.names("tokenizer"))
    assert "sound" in allowed
    assert f"there is no tokenizer called `x`. Allowed: {allowed}." in reported
    assert "Plugin fake_import 1.0 (fake_import) may offer it, but failed to load: ModuleNotFound" in reported


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("direct_url.json", '{"url": "file:///", "dir_info": {"editable": true}}'),
        ("PKG-INFO", "Name: fake_edited\n"),
    ],
)
def test_a_change_of_an_editable_package_changes_its_origin(
    file: str, text: str, install: Install, tmp_path: Path
) -> None:
    def origin() -> str:
        return load_plugins().catalog.get("tokenizer", "edited").origin.describe()

    install("fake_edited", plugin("edited"))
    assert origin() == "fake_edited 1.0"
    (tmp_path / "site" / "fake_edited-1.0.dist-info" / file).write_text(text)
    before = origin()
    assert before.startswith("fake_edited 1.0 sha256:")
    assert origin() == before
    module = tmp_path / "site" / "fake_edited.py"
    module.write_text(module.read_text() + "# another line\n")
    assert origin() != before
    assert origin().startswith("fake_edited 1.0 sha256:")


def test_decorated_parts_belong_to_their_installed_package(install: Install) -> None:
    install("fake_decorated", decorated("decorated"))
    catalog = load_plugins().catalog
    assert catalog.failures == []
    assert catalog.get("tokenizer", "decorated").origin.describe() == "fake_decorated 1.0"


def test_decorated_parts_of_a_broken_package_are_not_offered(install: Install) -> None:
    install("fake_half", decorated("half") + "\nraise ValueError('half way')\n")
    catalog = load_plugins().catalog
    assert catalog.failures == [PluginFailure("fake_half 1.0 (fake_half)", "ValueError: half way")]
    assert "half" not in catalog.names("tokenizer")


@pytest.mark.slow
def test_a_built_package_offers_its_parts(tmp_path: Path) -> None:
    """Build a project with setuptools, unpack it like pip, and find it in a new process."""
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools >= 77, which the `dev` extra asks for, is not installed")
    project, site = tmp_path / "project", tmp_path / "site"
    project.mkdir()
    shutil.copy(EXAMPLE, project / "fake_ears.py")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "fake-ears"\nversion = "2.5"\n'
        '[project.entry-points.ossicle]\nears = "fake_ears"\n'
        '[tool.setuptools]\npy-modules = ["fake_ears"]\n'
    )
    build_it = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build_it], cwd=project, check=True, capture_output=True)
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(site)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "ossicle", "plugins", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {
        "kind": "tokenizer",
        "name": "sign_hash",
        "aliases": [],
        "origin": "fake-ears 2.5",
        "summary": "Hash a patch by the sides of random hyperplanes that it lies on (Charikar, 2002).",
    } in json.loads(done.stdout)["parts"]


def test_a_script_declares_a_part_and_runs_an_experiment(tiny: Path, tmp_path: Path, program: Program) -> None:
    """Like a notebook: define the class in the running program, then call `ossicle.run`."""
    text = tiny.read_text().replace(
        "{type: random_projection, codebook_size: 16, codebook_dim: 8}", "{type: sign_hash}"
    )
    script = tmp_path / "notebook.py"
    script.write_text(
        f"{EXAMPLE.read_text()}\n\n"
        "if __name__ == '__main__':\n"
        "    from pathlib import Path\n"
        f"    Path('mine.yaml').write_text({text!r})\n"
        "    print(ossicle.run('mine.yaml', overrides=['pretrain.steps=2', 'evaluate=[]']))\n"
    )
    done = program(cwd=tmp_path, script=script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "runs/tiny\n"
    run = json.loads((tmp_path / "runs/tiny/run.json").read_text())
    stage = next(stage for stage in run["stages"] if stage["kind"] == "tokenizer")
    card = json.loads((tmp_path / "runs/tiny" / stage["artifact"] / "card.json").read_text())
    assert card["parts"]["tokenizer"]["origin"].startswith("defined in __main__ sha256:")
    assert card["metrics"]["codebook_size"] == 512


INVALID_TOKENS = [
    ("torch.zeros(2, 3, dtype=torch.int64)", r"must give \(2, 4\) int64 tokens, but gave \(2, 3\) torch.int64"),
    ("torch.zeros(2, 4)", r"must give \(2, 4\) int64 tokens, but gave \(2, 4\) torch.float32"),
    ("torch.full((2, 4), 8)", "has `codebook_size` 8, but gave tokens from 8 to 8"),
    ("torch.full((2, 4), -1)", "has `codebook_size` 8, but gave tokens from -1 to -1"),
    ("None", r"must give \(2, 4\) int64 tokens, but gave NoneType"),
]


@pytest.mark.parametrize(("given", "message"), INVALID_TOKENS)
def test_tokens_that_violate_the_interface_are_refused(given: str, message: str, tmp_path: Path) -> None:
    original = EXAMPLE.read_text()
    code = original.replace("return (bits <<", f"return {given}\n        return (bits <<")
    assert code != original
    (tmp_path / "mine.py").write_text(code)
    catalog = load_plugins([tmp_path / "mine.py"]).catalog
    choice = PartChoice.of(catalog.get("tokenizer", "sign_hash"), {"bits": 3})
    tokenizer = build(choice, Tokenizer, patch_dim=5)  # type: ignore[type-abstract]
    batch = PatchBatch(torch.randn(2, 4, 5), torch.ones(2, 4, dtype=torch.bool), Grid(2, 2))
    with pytest.raises(PluginError, match=f"tokenizer `SignHash` {message}"):
        tokenizer.tokenize(batch)
