"""Render one job in a process of its own: the job comes as JSON on the standard input, the clips go out likewise."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Run the function that the order names on its folder and job."""
    order = json.load(sys.stdin)
    module, function = order["function"].split(":")
    clips = getattr(import_module(module), function)(Path(order["folder"]), order["job"])
    print(json.dumps(list(clips)))


if __name__ == "__main__":
    main()
