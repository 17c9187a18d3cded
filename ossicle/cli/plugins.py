"""Commands on parts and plugins: `plugins`, `explain`, `schema` and `new`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import Adder, add_plugin

if TYPE_CHECKING:
    from ..core.catalog import Catalog, Part


STAGE = "stage"
"""The word for a kind of stage, where others name a kind of part."""


def add_commands(add: Adder) -> None:
    """Add the commands of this group."""
    command = add("plugins", _plugins, "list all parts and kinds of stages, and where they come from")
    command.add_argument("files", nargs="*", type=Path, help="plugin files to load in addition to installed plugins")
    command.add_argument("--json", action="store_true", help="print JSON")
    command = add("explain", _explain, "show the documentation and settings of a part, or a kind")
    command.add_argument(
        "kind", help="kind of part, such as corpus, encoder, tokenizer, objective or task; `stage` for a kind of stage"
    )
    command.add_argument(
        "name", nargs="?", help="name of the part or kind of stage; without it, show the kind and its parts"
    )
    add_plugin(command)
    add_plugin(add("schema", _schema, "print the JSON schema of experiments, for editors"))
    command = add("new", _new, "create a plugin project")
    command.add_argument("kind", choices=("tokenizer",), help="kind of part")
    command.add_argument("name", help="name of the part in YAML files, such as my_tokenizer")
    command.add_argument(
        "--into", type=Path, default=Path(), metavar="FOLDER", help="where to create it (default: the current folder)"
    )


def warn_of_failures(catalog: Catalog) -> None:
    """Print a warning for each plugin that could not be loaded."""
    for failure in catalog.failures:
        print(f"warning: plugin {failure.source} failed: {failure.error}", file=sys.stderr)


def _plugins(options: argparse.Namespace) -> int:
    """List all parts and kinds of stages, where they come from, and plugins that failed to load."""
    import json

    from ..core.plugin_loading import load_plugins
    from ..explain import interface_of, summary_of_stage

    catalog = load_plugins(options.files).catalog
    parts = [_plain(part) for part in catalog.parts()]
    stages = [
        {"name": name, "origin": origin.describe(), "summary": summary_of_stage(stage)}
        for name, (stage, origin) in sorted(catalog.stage_kinds.items())
    ]
    if options.json:
        failures = [{"source": failure.source, "error": failure.error} for failure in catalog.failures]
        kinds = [
            {"name": one.name, "origin": one.origin.describe(), "interface": interface_of(one), "summary": one.summary}
            for one in catalog.part_kinds.values()
        ]
        print(json.dumps({"kinds": kinds, "parts": parts, "stages": stages, "failures": failures}, indent=2))
        return 0
    rows = [*parts, *({"kind": STAGE, "aliases": [], **stage} for stage in stages)]
    widths = {column: max(len(row[column]) for row in rows) for column in ("kind", "name", "origin")}
    for row in rows:
        former = "".join(f" Formerly `{alias}`." for alias in row["aliases"])
        cells = [f"{row[column]:<{width}}" for column, width in widths.items()]
        print("  ".join([*cells, f"{row['summary']}{former}"]).rstrip())
    warn_of_failures(catalog)
    return 0


def _plain(part: Part) -> dict[str, Any]:
    return {
        "kind": part.kind,
        "name": part.name,
        "aliases": list(part.aliases),
        "origin": part.origin.describe(),
        "summary": part.summary,
    }


def _explain(options: argparse.Namespace) -> int:
    """Show the documentation of a part or a kind of stage, or what a kind is and which parts or stages it has."""
    from ..core.plugin_loading import load_plugins
    from ..explain import explain, explain_kind, explain_stage, explain_stages

    catalog = load_plugins(options.plugin).catalog
    if options.kind == STAGE:
        print(explain_stage(catalog, options.name) if options.name else explain_stages(catalog))
    else:
        print(explain(catalog.get(options.kind, options.name)) if options.name else explain_kind(catalog, options.kind))
    return 0


def _schema(options: argparse.Namespace) -> int:
    """Print the JSON schema of experiments, with which editors complete and check YAML files."""
    import json

    from ..core.config_files.json_schema import experiment_schema
    from ..core.plugin_loading import load_plugins

    print(json.dumps(experiment_schema(load_plugins(options.plugin).catalog), indent=2))
    return 0


def _new(options: argparse.Namespace) -> int:
    """Create a plugin project: code, tests, packaging and an ablation."""
    from ..scaffold import new_tokenizer

    folder = new_tokenizer(options.name, options.into)
    for path in sorted(folder.iterdir()):
        print(path)
    print(f"{folder / 'README.md'} lists the commands", file=sys.stderr)
    return 0
