"""The tutorial works: its commands are run and its code is pasted, in the order of the page.

The commands run in a virtual environment on top of this one, because the tutorial installs its plugin. Only the size of
the ablation is different.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", TUTORIAL.read_text(), flags=re.MULTILINE | re.DOTALL)
SMALL = (
    "corpus={{type: folder, path: {tones}, labels: folders}}",
    "front_end={{type: kaldi_fbank, mel_bins: 32}}",
    "encoder={{type: plain_vit, layers: 1, width: 32, feed_forward: 32, heads: 2}}",
    "pretrain.steps=4",
    "pretrain.warmup_steps=1",
    "seeds=[0]",
    "except=[{{tokenizer: position}}]",
    "compare.metric=linear_probe/tones/accuracy",
)


def commands() -> list[str]:
    return [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line]


def test_the_tutorial_takes_fewer_than_ten_commands_and_at_most_thirty_lines() -> None:
    assert len(commands()) < 10
    code = [line for kind, text in BLOCKS if kind == "python" for line in text.splitlines() if line.strip()]
    assert 0 < len(code) <= 30


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of a new virtual environment, in which the packages of this one are available, too."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    outer = sysconfig.get_path("purelib")
    (site / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    # fairseq2 looks for its libraries in the virtual environment.
    for library in (Path(sys.prefix) / "lib").glob("lib*.so*"):
        (folder / "lib" / library.name).symlink_to(library)
    python = folder / "bin" / "python"
    for name in ("ossicle", "pytest", "pip"):
        call = f"{python} -m {name}"
        if name == "pip" and find_spec("pip") is None:
            call = f"{python} -m uv pip" if find_spec("uv") else "uv pip"
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        script.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "VIRTUAL_ENV": str(folder), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def script(tones: Path) -> str:
    """The tutorial as a shell script."""
    small = shlex.join(text.format(tones=tones) for text in SMALL)
    lines = ["set -eux"]
    for kind, text in BLOCKS:
        if kind == "python":
            lines += ["cat > pca_hash.py <<'CODE'", text.rstrip(), "CODE"]
        else:
            lines += [f"{line} {small}" if line.startswith("ossicle ablate") else line for line in text.splitlines()]
    return "\n".join(lines)


@pytest.mark.slow
def test_the_tutorial_ends_with_a_verdict(tmp_path: Path, tones: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-c", script(tones)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "12 passed" in done.stdout
    assert re.search(r"pca_hash .*(better|worse|cannot tell)", done.stdout), done.stdout
    ablation = tmp_path / "pca_hash" / "runs" / "ablation"
    assert "pca_hash" in (ablation / "report.html").read_text()
