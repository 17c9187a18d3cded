"""The list of files in an artifact's card, and its comparison with the files on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def list_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Map the relative path of every file below a folder to its size in `bytes` and its `sha256`."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for name, path in files.items()}


def damage_of(path: Path, listed: Mapping[str, Any], *, contents: bool) -> str | None:
    """Describe how a file differs from its entry in a list. Return None if it does not differ.

    Args:
        contents: whether to compare the content in addition to the size
    """
    try:
        size = path.stat().st_size
        if size != listed["bytes"]:
            return f"{path} is damaged: it has {size:,} bytes instead of {listed['bytes']:,}"
        if contents and file_sha256(path) != listed["sha256"]:
            return f"{path} is damaged: its content does not match the digest in the card"
    except FileNotFoundError:
        return f"{path} is missing"
    except PermissionError:
        raise
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file in hexadecimal digits, once per process unless the file changes."""
    state = path.stat()
    version = state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size
    if version not in _digests:
        with path.open("rb") as file:
            _digests[version] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[version]


_digests: dict[tuple[int, ...], str] = {}
"""Digests by the version of a file. The version stays the same when the folder of a new artifact is renamed."""
