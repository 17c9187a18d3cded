"""The command `ossicle bench`: measure, print and write."""

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
    """Measure works and print a table after each.

    Args:
        quick: whether to measure only the two-minute version
        targets: whether to measure only the cases that have targets
        only: names of works; all when empty
        peers: folders of other implementations
        out: Markdown file to write, with a JSON file of the same name beside it
        command: the command line, which the page states

    Raises:
        OssicleError: if a work is unknown or not part of the version, or the folder of a peer does not exist
    """
    names = [*WORKS, SCALE]
    for name in only:
        if name not in names:
            raise OssicleError(f"there is no work called `{name}`. {choices(name, names)}")
    # Imported late, because these modules import torch.
    from .growing import growths
    from .measuring import measure
    from .plans import ABOUT_TARGETS, FULL, QUICK
    from .report import Page

    plan = QUICK if quick else ABOUT_TARGETS if targets else FULL
    extent = "--quick" if quick else "--targets"
    planned = list(dict.fromkeys([*(case.work for case in plan.cases), SCALE]))
    for name in only:
        if name not in planned:
            raise OssicleError(f"{extent} does not measure `{name}`; remove one of the two. {choices(name, planned)}")
    page = Page(console, out, command)
    for case in plan.cases:
        if not only or case.work in only:
            with console.status(Text(f"measuring {case.name}")):
                table = measure(case, peers, seconds=plan.seconds)
            page.add(table)
    if SCALE in only or not (only or quick or targets):
        for growth in growths():
            page.add(growth)
