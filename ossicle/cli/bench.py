"""The command `bench`: speed, compared with other implementations."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .options import Adder

LOG_WIDTH = 120
"""Columns of tables that do not go to a terminal."""


def add_commands(add: Adder) -> None:
    """Add the commands of this group."""
    command = add("bench", _bench, "measure speed, next to other implementations")
    extent = command.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="a short version of two minutes")
    extent.add_argument("--targets", action="store_true", help="only measure what has a target")
    command.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="WORK",
        help="only measure these, such as encoder or pretrain",
    )
    command.add_argument(
        "--peer",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="another implementation: the released code (a folder with BEATs.py), or a folder to import openbeats, "
        "espnet, avex or speechbrain from; can be repeated",
    )
    command.add_argument("--out", type=Path, metavar="FILE", help="Markdown file to write, with a JSON file next to it")


def _bench(options: argparse.Namespace) -> int:
    """Measure the speed of each step from audio file to training, next to other implementations of BEATs."""
    from rich.console import Console

    from ..benchmarks.bench_runner import bench
    from ..experiment.output_paths import check_page

    if options.out is not None:
        check_page("--out", options.out)
    extent = ["--quick"] if options.quick else ["--targets"] if options.targets else []
    only = ["--only", *options.only] if options.only else []
    peers = [word for peer in options.peer for word in ("--peer", peer.name)]
    bench(
        Console(width=None if sys.stdout.isatty() else LOG_WIDTH),
        quick=options.quick,
        targets=options.targets,
        only=options.only,
        peers=options.peer,
        out=options.out,
        command=" ".join(["ossicle bench", *extent, *only, *peers]),
    )
    return 0
