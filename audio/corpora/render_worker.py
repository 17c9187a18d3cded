"""Render one job in a separate process. It reads the job as JSON from standard input and prints the clips as JSON."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Call the function that the request names with its folder and job."""
    request = json.load(sys.stdin)
    module, function = request["function"].split(":")
    clips = getattr(import_module(module), function)(Path(request["folder"]), request["job"])
    print(json.dumps(list(clips)))


if __name__ == "__main__":
    main()
