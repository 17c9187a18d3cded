"""Where presets lie: YAML files that `base:` names without their suffix, such as `beats/tiny`.

Notable choices: the folder is found from this file, which holds in a checkout, an editable install and a wheel alike
(`presets/` is beside `core/` in each); only listed names are opened, so that no name leads out of the folder.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "presets"


def preset_names() -> list[str]:
    """The name of every preset, in alphabetical order."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def preset_path(name: str) -> Path | None:
    """The file of a preset, or None if there is no such preset."""
    return FOLDER / f"{name}.yaml" if name in preset_names() else None
