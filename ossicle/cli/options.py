"""How commands and the options that several of them share are declared."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

Command = Callable[[argparse.Namespace], int]
"""Runs with the parsed options and returns an exit code. Its docstring is the description on its help page."""


Adder = Callable[[str, Command, str], argparse.ArgumentParser]
"""Adds a command by its name, its function and a short help, and returns its parser."""


def add_overrides(parser: argparse.ArgumentParser, help: str = "override a value, such as pretrain.steps=100") -> None:
    """Add values that override those of a YAML file, as `options.overrides`."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=help)


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Add plugin files, as `options.plugin`."""
    parser.add_argument(
        "--plugin", type=Path, action="append", default=[], metavar="FILE", help="plugin file; can be repeated"
    )
