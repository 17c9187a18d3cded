"""Commands on one experiment: `run`, `check` and `plan`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import OssicleError
from .options import Adder, add_overrides
from .plugins import warn_of_failures

if TYPE_CHECKING:
    from rich.console import Console


def add_commands(add: Adder) -> None:
    """Add the commands of this group."""
    _add_run_options(add("run", _run, "run an experiment; finished stages are skipped"))
    _add_experiment(add("check", _check, "check an experiment and print it with all defaults"))
    _add_plan_options(add("plan", _plan, "show the stages of an experiment and their cost"))


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, help="YAML file of the experiment")
    add_overrides(parser)


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of all runs (default: runs)")
    parser.add_argument(
        "--store", type=Path, metavar="FOLDER", help="folder of all artifacts (default: .store in the folder of runs)"
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    _add_experiment(parser)
    _add_folders(parser)
    parser.add_argument(
        "--elastic", action="store_true", help="continue from checkpoints of another number of processes"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="try a few steps of every training at full size on synthetic clips; keeps nothing without --out",
    )
    parser.add_argument("--steps", type=int, help="steps of each training in a dry run (default: 2)")


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    _add_experiment(parser)
    _add_folders(parser)
    parser.add_argument("--calibrate", action="store_true", help="measure a few steps of every training")
    parser.add_argument("--price-per-hour", type=float, metavar="PRICE", help="of this machine; needs --calibrate")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> int:
    """Run an experiment. Stages whose artifacts exist are skipped, and an interrupted training continues."""
    from rich.console import Console

    from ..core.distributed import joined, rank
    from ..display import TerminalDisplay
    from ..experiment.run import DEFAULT_OUT, run
    from ..report import RunRecord, print_summary

    console = Console()
    if options.dry_run:
        return _dry_run(options, console)
    if options.steps is not None:
        raise OssicleError(
            f"--steps is only for dry runs: add --dry-run to try {options.steps} steps of every training, or use "
            f"`pretrain.steps={options.steps}` to set the steps of pre-training"
        )
    with joined():
        folder = run(
            options.experiment,
            overrides=options.overrides,
            out=options.out or DEFAULT_OUT,
            store=options.store,
            display=TerminalDisplay(console),
            elastic=options.elastic,
        )
        if rank() == 0:
            print_summary(RunRecord.read(folder), console)
    return 0


def _dry_run(options: argparse.Namespace, console: Console) -> int:
    from ..display import TerminalDisplay
    from ..planning.dry_run import STEPS, dry_run, print_dry_run

    given = {"--store": options.store is not None, "--elastic": options.elastic}
    if unused := [option for option, is_given in given.items() if is_given]:
        raise OssicleError(
            f"{' and '.join(unused)} cannot be used with --dry-run, which starts from nothing and only writes to "
            "--out: remove one or the other"
        )
    found = dry_run(
        options.experiment,
        overrides=options.overrides,
        out=options.out,
        steps=STEPS if options.steps is None else options.steps,
        on_stage=TerminalDisplay(console).note,
    )
    print_dry_run(found, console)
    return 0


def _check(options: argparse.Namespace) -> int:
    """Report all problems that would make an experiment fail. Without any, print it with all defaults."""
    from ..core.config_files.experiment_loader import resolved_yaml
    from ..core.corpora import Corpora
    from ..core.display import Silent
    from ..experiment.check import check

    checked = check(options.experiment, options.overrides, Corpora(Silent()), prepare=False)
    print(resolved_yaml(checked.experiment), end="")
    warn_of_failures(checked.plugins.catalog)
    print(f"{options.experiment}: no problems; {len(checked.stages)} stages", file=sys.stderr)
    return 0


def _plan(options: argparse.Namespace) -> int:
    """Show the stages of an experiment, which of them exist, and what the others cost."""
    import json

    from rich.console import Console
    from rich.text import Text

    from ..experiment.run import DEFAULT_OUT
    from ..planning.plan import plan
    from ..planning.plan_view import print_plan

    console = Console(stderr=options.json)
    with console.status("planning") as status:
        found = plan(
            options.experiment,
            overrides=options.overrides,
            out=options.out or DEFAULT_OUT,
            store=options.store,
            calibrate=options.calibrate,
            price_per_hour=options.price_per_hour,
            on_stage=lambda name: status.update(Text(f"measuring {name}")),
        )
    if options.json:
        print(json.dumps(found.plain(), indent=2))
    else:
        print_plan(found, console)
    return 0
