"""The command `ossicle bench`: measure, show, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ..core.errors import OssicleError
from ..core.wording import choices
from .works import SCALE, WORKS


def bench(
    console: Console,
    *,
    quick: bool,
    targets: bool,
    only: Sequence[str],
    peers: Sequence[Path],
    out: Path | None,
    command: str,
) -> None:
    """Measure works and print a table of each as it is done.

    Args:
        quick: the two-minute version
        targets: only what the targets are about
        only: names of works; all when empty
        peers: folders of other implementations
        out: Markdown file to write, with JSON beside it
        command: that started this, for the page

    Raises:
        OssicleError: if a work is unknown or not part of what is asked for, a folder of a peer is none, or `out` is a
            folder, in none, or where the figures go
    """
    names = [*WORKS, SCALE]
    for name in only:
        if name not in names:
            raise OssicleError(f"there is no work called `{name}`. {choices(name, names)}")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise OssicleError(f"--out {out}: give a file, such as RESULTS.md, in a folder that exists")
    if out is not None and out == out.with_suffix(".json"):
        raise OssicleError(f"--out {out}: the figures go there, beside the page; give the page another ending")
    # What follows brings torch.
    from .growing import growths
    from .measuring import measure
    from .plans import ABOUT_TARGETS, FULL, QUICK
    from .report import Page

    plan = QUICK if quick else ABOUT_TARGETS if targets else FULL
    extent = "--quick" if quick else "--targets"
    there = list(dict.fromkeys([*(case.work for case in plan.cases), SCALE]))
    for name in only:
        if name not in there:
            raise OssicleError(f"{extent} does not measure `{name}`; leave one of the two out. {choices(name, there)}")
    page = Page(console, out, command)
    for case in plan.cases:
        if not only or case.work in only:
            with console.status(Text(f"measuring {case.name}")):
                table = measure(case, peers, seconds=plan.seconds)
            page.add(table)
    if SCALE in only or not (only or quick or targets):
        for growth in growths():
            page.add(growth)
