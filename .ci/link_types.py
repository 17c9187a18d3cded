"""Lay out the package for mypy: fill `.types/ossicle` with links to `ossicle/` and to the top-level folders.

In a checkout `ossicle/__init__.py` adds the top-level folders to its `__path__`, which mypy does not see.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREE = ROOT / ".types" / "ossicle"


def main() -> None:
    """Remove the old tree and create a new one."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {Path(folder).parts[0] for folder in settings["package-dir"].values()} - {"ossicle"}
    shutil.rmtree(TREE.parent, ignore_errors=True)
    TREE.mkdir(parents=True)
    for path in [*(ROOT / "ossicle").iterdir(), *(ROOT / folder for folder in folders)]:
        (TREE / path.name).symlink_to(Path("../..") / path.relative_to(ROOT))


if __name__ == "__main__":
    main()
