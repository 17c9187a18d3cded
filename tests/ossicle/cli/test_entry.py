"""The entry point: usage errors, refused paths, errors of the system, and exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest

from ossicle.cli import entry, plugins

pytestmark = pytest.mark.usefixtures("own_plugins")

ROOT = Path(__file__).parents[3]

Commands = Callable[..., Any]
"""Runs a command and returns its exit code, standard output and standard error as `code`, `out` and `err`."""


def test_every_command_has_a_help_page(ossicle: Commands) -> None:
    listed = ossicle("--help").out
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("    ") and line[4] != " "]
    assert {"run", "check", "plan", "ablate", "embed", "import", "plugins", "tokens", "bench"} <= set(names)
    for name in names:
        page = ossicle(name, "--help")
        assert (page.code, page.err) == (0, "")
        assert page.out.startswith(f"usage: ossicle {name} ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["chek", "x.yaml"], "invalid choice: 'chek'"),
        (["check", "x.yaml", "--fast"], "unrecognized arguments: --fast"),
        (["run", "x.yaml", "--out", "there", "steps"], "unrecognized arguments: steps"),
    ],
)
def test_a_misspelt_command(arguments: list[str], message: str, ossicle: Commands) -> None:
    shown = ossicle(*arguments)
    assert shown.code == 2
    assert message in shown.err


@pytest.fixture
def in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file called FILE and a folder called FOLDER.npz."""
    (tmp_path / "FILE").write_text("")
    (tmp_path / "FOLDER.npz").mkdir()
    (tmp_path / "tokenizer.pt").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICKSTART = str(ROOT / "experiments" / "quickstart.yaml")


TOKENIZERS = str(ROOT / "experiments" / "ablations" / "tokenizers.yaml")


A_FILE = "`FILE` is a file where a folder must be; name another place\n"


A_PAGE = "the figures go there, beside the page; give the page another ending\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["run", QUICKSTART, "--out", "FILE"], f"--out FILE: {A_FILE}"),
        (["run", QUICKSTART, "--out", "FILE/runs"], f"--out FILE/runs: {A_FILE}"),
        (["run", QUICKSTART, "--store", "FILE"], f"--store FILE: {A_FILE}"),
        (["run", QUICKSTART, "--dry-run", "--out", "FILE"], f"--out FILE: {A_FILE}"),
        (["ablate", TOKENIZERS, "--out", "FILE"], f"--out FILE: {A_FILE}"),
        (["embed", "FILE", "FILE", "--out", "FOLDER.npz"], "--out FOLDER.npz: is a folder; name a file in it, such as"),
        (["import", "FILE", "--out", "FILE/new"], f"--out FILE/new: {A_FILE}"),
        (["export", "FOLDER.npz", "--out", "FOLDER.npz"], "--out FOLDER.npz: is a folder; name a file in it, such as"),
        (["tokens", "FILE", "--out", "FOLDER.npz"], "--out FOLDER.npz: is a folder; name a file in it, such as"),
        (
            ["tokens", "FILE", "--out", "FILE/x.html"],
            f"--out FILE/x.html: {A_FILE}",
        ),
        (["tokens", "FILE", "--out", "page.json"], f"--out page.json: {A_PAGE}"),
        (["tokens", "FILE", "--seed", "-1"], "`seed` must be 0 or more, but is -1\n"),
        (["tokens", "nope"], "`nope` does not exist; name a run, an artifact or a released checkpoint\n"),
        (["bench", "--out", "page.json"], f"--out page.json: {A_PAGE}"),
        (["bench", "--out", "FOLDER.npz"], "--out FOLDER.npz: is a folder; name a file in it, such as"),
        (["bench", "--out", "FILE/x.md"], f"--out FILE/x.md: {A_FILE}"),
        (
            ["bench", "--quick", "--only", "quickstart"],
            "--quick does not measure `quickstart`; remove one of the two",
        ),
        (
            ["run", QUICKSTART, "--steps", "100"],
            "--steps is only for dry runs: add --dry-run to try 100 steps of every training, or use "
            "`pretrain.steps=100` to set the steps of pre-training",
        ),
        (
            ["run", QUICKSTART, "--dry-run", "--store", "S", "--elastic"],
            "--store and --elastic cannot be used with --dry-run",
        ),
        (["run", QUICKSTART, "--dry-run", "--elastic"], "--elastic cannot be used with --dry-run"),
    ],
    ids=lambda value: " ".join(word for word in value if "/" not in word) if isinstance(value, list) else "",
)
def test_paths_and_options_that_cannot_work_are_refused(
    command: list[str], message: str, in_the_way: Path, ossicle: Commands
) -> None:
    before = sorted(in_the_way.rglob("*"))
    shown = ossicle(*command)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1
    assert sorted(in_the_way.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/data/x.json"), "/data/x.json: Permission denied\n"),
        (
            OSError(28, "No space left on device"),
            "No space left on a disk: free some space there, and run the same command again\n",
        ),
    ],
)
def test_errors_of_the_file_system_are_one_line(
    error: OSError, message: str, ossicle: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(options: object) -> int:
        raise error

    monkeypatch.setattr(plugins, "_schema", refused)
    assert ossicle("schema") == (2, "", message)


# Too small for the first encoder, for a checkpoint, and large enough.
RUN_ON_DISKS = """
import subprocess, sys
from pathlib import Path
from forked import run_program

for size in ("40k", "500k", "8m"):
    subprocess.run(["mount", "-o", f"remount,size={size}", "disk"], check=True)
    Path(size).mkdir()
    print(run_program("run", sys.argv[1], "--store", "disk/store", output=Path(size)).returncode)
"""


@pytest.mark.slow
def test_a_run_continues_when_its_full_disk_has_space(
    small_disk: list[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(forked.__file__).parent))
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size=40k tmpfs disk && exec "$@"'
    command = [*small_disk, script, "sh", sys.executable, "-c", RUN_ON_DISKS, tiny]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2\n2\n0\n", "")
    message = (
        f"No space left on the disk mounted on {tmp_path / 'disk'}, which holds disk/store: "
        "free some space there, and run the same command again\n"
    )
    errors = [(tmp_path / size / "err").read_text() for size in ("40k", "500k", "8m")]
    assert errors == [message, message, ""]
    assert (tmp_path / "500k" / "out").read_text().count("pretrain") == 1, "the second disk is full when it trains"


def test_other_errors_of_the_system_keep_their_traceback(ossicle: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(plugins, "_schema", broken)
    monkeypatch.setattr(entry, "_is_read", lambda stream: True)
    with pytest.raises(BrokenPipeError):
        ossicle("schema")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["schema", "plugins"])
def test_a_closed_pipe_ends_a_command_silently(command: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ossicle", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
