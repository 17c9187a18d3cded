"""Where a command may write, looked up before its work begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..core.errors import OssicleError


def check_folder(option: str, path: Path) -> None:
    """Hold a folder that is there or is to be made against what lies in its way.

    Args:
        option: what the user calls it, such as `--out`

    Raises:
        OssicleError: if it, or what is to hold it, is a file
    """
    _refuse_files(option, path, (path, *path.parents))


def check_file(option: str, path: Path) -> None:
    """Hold a file that is to be written against what lies in its way.

    Args:
        option: what the user calls it, such as `--out`

    Raises:
        OssicleError: if it is a folder, or what is to hold it is a file
    """
    if path.is_dir():
        raise OssicleError(f"{option} {path}: is a folder; name a file in it, such as {path / 'NAME'}")
    _refuse_files(option, path, path.parents)


def check_page(option: str, path: Path) -> Path:
    """Hold a page and its figures, JSON of the same name, against what lies in their way; return the JSON's path.

    Args:
        option: what the user calls the page, such as `--out`

    Raises:
        OssicleError: if either cannot be written, or the two are one file
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
