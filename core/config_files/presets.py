"""Presets: YAML files that `base:` names without their suffix, such as `beats/tiny`.

Notable choices:

- The folder is found relative to this file. `presets/` is next to `core/` in a checkout, an editable install and a
  wheel.
- Only listed names are opened, so a name cannot lead out of the folder.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "presets"


def preset_names() -> list[str]:
    """List the names of all presets in alphabetical order."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def preset_path(name: str) -> Path | None:
    """Return the file of a preset, or None if there is no such preset."""
    return FOLDER / f"{name}.yaml" if name in preset_names() else None
