"""Commands on many runs: `ablate`, `results` and `ensemble`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..core.errors import OssicleError
from .options import Adder, add_overrides

FAILED = 1
"""Exit code if a cell failed."""


def add_commands(add: Adder) -> None:
    """Add the commands of this group."""
    _add_ablate_options(add("ablate", _ablate, "run variants with several seeds and compare them"))
    _add_results_options(add("results", _results, "collect the scores of runs in one table"))
    _add_ensemble_options(add("ensemble", _ensemble, "score the mean prediction of several runs"))


def _add_ablate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ablation", type=Path, help="YAML file of the ablation")
    add_overrides(parser, "override a value, such as 'seeds=[0, 1]', or pretrain.steps=100 of the base")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of all runs (default: runs)")
    parser.add_argument(
        "--jobs", type=_jobs, default=1, metavar="N", help="cells that run at the same time (default: 1)"
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first cell that fails")
    parser.add_argument("--dry-run", action="store_true", help="show the cells and their cost, and stop")
    parser.add_argument("--calibrate", action="store_true", help="measure a few steps of every training first")


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, but is {text}")
    return int(text)


def _add_results_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run or of an ablation")
    parser.add_argument("--format", choices=("table", "csv", "markdown", "latex", "json"), default="table")
    parser.add_argument(
        "--verdict", action="store_true", help="print the verdicts of ablations instead, as a table or as markdown"
    )


def _add_ensemble_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run; at least two")
    parser.add_argument("--task", help="task to score (default: all tasks that the runs have in common)")
    parser.add_argument("--subject", help="encoder of each run (default: the last one that was pre-trained)")
    parser.add_argument("--view", help="view of each run (default: the best one on its validation clips)")


def _ablate(options: argparse.Namespace) -> int:
    """Run variants of an experiment with several seeds, and compare them. Finished cells are skipped."""
    from rich.console import Console

    from ..ablation.runner import Options, ablate
    from ..experiment.run import DEFAULT_OUT

    record = ablate(
        options.ablation,
        overrides=options.overrides,
        options=Options(options.out or DEFAULT_OUT, options.jobs, options.fail_fast),
        dry_run=options.dry_run,
        calibrate=options.calibrate,
        console=Console(),
    )
    return FAILED if record.count("failed") else 0


def _results(options: argparse.Namespace) -> int:
    """Collect the scores of runs and ablations in one table."""
    if options.verdict:
        return _verdicts(options)
    from ..ablation.results import gather, print_results, written

    results = gather(options.runs)
    for note in results.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.format == "table":
        from rich.console import Console

        print_results(results, Console())
    else:
        print(written(results, options.format), end="")
    return 0


def _verdicts(options: argparse.Namespace) -> int:
    from rich.console import Console

    from ..ablation.comparison import compare
    from ..ablation.verdict_tables import print_comparison, verdict_markdown

    if options.format not in ("table", "markdown"):
        raise OssicleError(f"--verdict needs --format table or markdown, but it is {options.format}")
    for folder in options.runs:
        comparison = compare(folder)
        if options.format == "markdown":
            print(verdict_markdown(comparison))
        else:
            print_comparison(Console(), comparison)
    return 0


def _ensemble(options: argparse.Namespace) -> int:
    """Average the predictions of several runs for the same clips, and score the mean."""
    from rich.console import Console

    from ..inference.ensemble import ensemble, print_ensembles

    found = ensemble(options.runs, task=options.task, subject=options.subject, view=options.view)
    print_ensembles(found, Console())
    return 0
