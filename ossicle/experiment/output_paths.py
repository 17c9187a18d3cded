"""Checks of output paths before a command begins its work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..core.errors import OssicleError


def check_folder(option: str, path: Path) -> None:
    """Check that a folder exists or can be made.

    Args:
        option: name of the option, such as `--out`

    Raises:
        OssicleError: if the folder or one of its parents is a file
    """
    _refuse_files(option, path, (path, *path.parents))


def check_file(option: str, path: Path) -> None:
    """Check that a file can be written.

    Args:
        option: name of the option, such as `--out`

    Raises:
        OssicleError: if the path is a folder, or one of its parents is a file
    """
    if path.is_dir():
        raise OssicleError(f"{option} {path}: is a folder; name a file in it, such as {path / 'NAME'}")
    _refuse_files(option, path, path.parents)


def check_page(option: str, path: Path) -> Path:
    """Check that a page and its JSON of the same name can be written; return the path of the JSON.

    Args:
        option: name of the option for the page, such as `--out`

    Raises:
        OssicleError: if one of them cannot be written, or both are the same file
    """
    check_file(option, path)
    figures = path.with_suffix(".json")
    if figures == path:
        raise OssicleError(f"{option} {path}: the figures go there, beside the page; give the page another ending")
    check_file(option, figures)
    return figures


def _refuse_files(option: str, path: Path, folders: Iterable[Path]) -> None:
    for place in folders:
        if place.is_file():
            raise OssicleError(f"{option} {path}: `{place}` is a file where a folder must be; name another place")
