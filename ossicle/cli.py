"""The command line. Nothing heavy is imported before a command needs it.

Exit codes: 0 done; 1 cells of an ablation have failed; 2 something the user can mend, told in one line per problem;
130 stopped on request; 141 whoever read the output, such as `head`, has gone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import select
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from . import __version__
from .core.errors import Interrupted, OssicleError, StoppedElsewhere
from .experiment.full_disk import naming_full_disk

if TYPE_CHECKING:
    from rich.console import Console

    from .core.catalog import Catalog

FAILED, MENDABLE, STOPPED, UNREAD = 1, 2, 130, 141

Adder = Callable[[str, str], argparse.ArgumentParser]
"""Adds a sub-command, by its name and its help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code."""
    options = _parse(arguments)
    # pydantic would look for plugins of its own in all installed packages.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    try:
        with naming_full_disk(getattr(options, "out", None)):
            code: int = options.command(options)
            sys.stdout.flush()
    except Interrupted as stop:
        print(f"{stop}. To go on, give the same command again.", file=sys.stderr)
        return STOPPED
    except StoppedElsewhere:
        # torchrun kills the others as soon as one fails: the one that says why must be the first.
        return 0
    except OssicleError as error:
        print(error, file=sys.stderr)
        return MENDABLE
    except BrokenPipeError:
        if _is_read(sys.stdout):
            raise
        # Else Python would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except OSError as error:
        # One that names no file is no matter of what the user has given, but of ours.
        if error.filename is None:
            raise
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return MENDABLE
    except KeyboardInterrupt:
        print("stopped; what was finished is kept. To go on, give the same command again.", file=sys.stderr)
        return STOPPED
    return code


def _is_read(stream: TextIO) -> bool:
    """Whether what is written there can still reach somebody."""
    poll = select.poll()
    # Errors are told of unasked.
    poll.register(stream, 0)
    return not any(events & select.POLLERR for _, events in poll.poll(0))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes no positionals after an option once it has taken some before it.
    if rest and not (hasattr(options, "overrides") and all("=" in text and text[0] != "-" for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ossicle", description="Self-supervised learning on audio, part by part.")
    parser.add_argument("--version", action="version", version=f"ossicle {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(command=globals()[f"_{name}"])
        return command

    _add_experiments(add)
    _add_ablate(add)
    _add_results(add)
    _add_new(add)
    _add_tokens(add)
    _add_bench(add)
    command = add("ensemble", "average what several runs predict for the same clips, and score the mean")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run; two or more")
    command.add_argument("--task", help="the task to look at (default: all that the runs share)")
    command.add_argument("--subject", help="the encoder of each run (default: its last pre-trained one)")
    command.add_argument("--view", help="the view of each run (default: the best on its validation clips)")
    command = add("plugins", "list the parts on offer, where they come from, and plugins that failed")
    command.add_argument("files", nargs="*", type=Path, help="plugin files to load besides the installed ones")
    command.add_argument("--json", action="store_true", help="print JSON")
    command = add("explain", "show a part's fields, defaults and documentation, or what a kind of part is")
    command.add_argument("kind", help="such as corpus, encoder, tokenizer, objective or task")
    command.add_argument("name", nargs="?", help="the part's name; left out, the kind and its parts are shown")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="plugin file that brings the part")
    command = add("schema", "print the JSON schema of experiments, for editors")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="plugin file with further parts")
    _add_exports(add)
    command = add("import", "make an artifact of a released checkpoint of BEATs, OpenBEATs or ESPnet")
    command.add_argument("file", type=Path, help="the checkpoint")
    command.add_argument("--out", type=Path, required=True, help="the artifact's folder; made new")
    command = add("export", "write an encoder or a tokenizer in the format that was released with BEATs")
    command.add_argument("source", type=Path, help="an artifact, or a run's folder")
    command.add_argument("--out", type=Path, required=True, help="the file to write, such as BEATs.pt")
    command.add_argument("--part", choices=("encoder", "tokenizer"), help="default: the encoder, where there is one")
    command.add_argument("--plugin", type=Path, action="append", default=[], help="plugin file that it needs")
    return parser


def _add_experiments(add: Adder) -> None:
    for name, help in (
        ("run", "run an experiment; what is already done is not done again"),
        ("check", "find what would make an experiment fail, and print it resolved"),
        ("plan", "show what an experiment would make, what of it is done, and what the rest costs"),
    ):
        command = add(name, help)
        command.add_argument("experiment", type=Path, help="the experiment's YAML file")
        command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. pretrain.steps=100")
        if name != "check":
            command.add_argument("--out", type=Path, help="folder for runs (default: runs)")
            command.add_argument("--store", type=Path, help="folder of artifacts (default: .store among the runs)")
        if name == "run":
            command.add_argument(
                "--elastic", action="store_true", help="go on from what another number of processes has kept"
            )
            command.add_argument(
                "--dry-run",
                action="store_true",
                help="try a few steps of every training at full size on synthetic clips; nothing is kept without --out",
            )
            command.add_argument("--steps", type=int, help="of each training in a dry run (default: 2)")
        if name == "plan":
            command.add_argument("--calibrate", action="store_true", help="measure a few steps of every training")
            command.add_argument("--price-per-hour", type=float, help="of this machine; with --calibrate")
            command.add_argument("--json", action="store_true", help="print JSON")


def _add_exports(add: Adder) -> None:
    for name, help, made in (
        ("embed", "embed audio files", "embeddings.npz"),
        ("tokenize", "turn audio files into token ids", "tokens.npz"),
    ):
        command = add(name, help)
        command.add_argument("part", type=Path, help="an artifact, a run's folder or a released checkpoint")
        command.add_argument("audio", nargs="+", type=Path, help="audio files, or folders of them")
        command.add_argument("--out", type=Path, default=Path(made), help=f".npz or .parquet (default: {made})")
        command.add_argument(
            "--window-seconds",
            type=float,
            default=30.0,
            help="longer recordings are taken in windows of this length; inf takes all whole (default: 30)",
        )
        command.add_argument(
            "--overlap-seconds",
            type=float,
            default=4.0,
            help="what neighbouring windows share; half of it is context on either side (default: 4)",
        )
        command.add_argument("--plugin", type=Path, action="append", default=[], help="plugin file that it needs")


def _add_ablate(add: Adder) -> None:
    command = add("ablate", "run variants of an experiment with several seeds, and compare them")
    command.add_argument("ablation", type=Path, help="the ablation's YAML file")
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="e.g. seeds=[0, 1], or pretrain.steps=100 of the base"
    )
    command.add_argument("--out", type=Path, help="folder for runs (default: runs)")
    command.add_argument("--jobs", type=_jobs, default=1, help="cells that run at once (default: 1)")
    command.add_argument("--fail-fast", action="store_true", help="let the first failed cell end all")
    command.add_argument("--dry-run", action="store_true", help="show the cells and what is to be made, and stop there")
    command.add_argument("--calibrate", action="store_true", help="measure a few steps of every training beforehand")


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, but is {text}")
    return int(text)


def _add_results(add: Adder) -> None:
    command = add("results", "gather the scores of runs and ablations into one table")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run or of an ablation")
    command.add_argument("--format", choices=("table", "csv", "markdown", "latex", "json"), default="table")
    command.add_argument("--verdict", action="store_true", help="of ablations: who is better (a table or markdown)")


def _add_new(add: Adder) -> None:
    command = add("new", "write the project of a plugin to go on from: code, tests, packaging and an ablation")
    command.add_argument("kind", choices=("tokenizer",), help="what kind of part it brings")
    command.add_argument("name", help="what YAML shall call the part, such as my_tokenizer")
    command.add_argument("--into", type=Path, default=Path(), metavar="FOLDER", help="makes it there (default: here)")


def _add_tokens(add: Adder) -> None:
    command = add(
        "tokens", "write a report card of tokenizers: what their tokens hold and withstand, and how they sound"
    )
    command.add_argument(
        "tokenizers", nargs="+", type=Path, metavar="TOKENIZER", help="a run, an artifact or a released checkpoint"
    )
    command.add_argument(
        "--corpus", help="a corpus, a folder, a table or YAML (default: what the first run learnt from)"
    )
    command.add_argument("--clips", type=int, default=300, help="how many clips to look at (default: 300)")
    command.add_argument(
        "--split", choices=("train", "valid", "test", "unlabelled"), help="where to draw them from (default: valid)"
    )
    command.add_argument("--seed", type=int, default=0, help="drives all that is random (default: 0)")
    command.add_argument(
        "--code",
        type=int,
        action="append",
        default=[],
        metavar="ID",
        help="a code to listen to, instead of chosen ones",
    )
    made = "tokens.html"
    command.add_argument(
        "--out", type=Path, default=Path(made), help=f"page; its figures lie beside it (default: {made})"
    )
    command.add_argument("--plugin", type=Path, action="append", default=[], help="plugin file that is needed")


def _add_bench(add: Adder) -> None:
    command = add("bench", "measure how fast every part of the way is, beside other implementations of BEATs")
    extent = command.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="the two-minute version")
    extent.add_argument("--targets", action="store_true", help="only what benchmarks/targets.py sets targets for")
    command.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="WORK", help="such as encoder or pretrain"
    )
    command.add_argument(
        "--peer",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="the released implementation (a folder with BEATs.py), or a folder to import openbeats, espnet, avex or "
        "speechbrain from",
    )
    command.add_argument("--out", type=Path, help="Markdown file to write, with JSON beside it")


def _run(options: argparse.Namespace) -> int:
    from rich.console import Console

    from .core.distributed import joined, rank
    from .display import TerminalDisplay
    from .experiment.run import DEFAULT_OUT, run
    from .report import RunRecord, print_summary

    console = Console()
    if options.dry_run:
        return _dry_run(options, console)
    if options.steps is not None:
        raise OssicleError(
            f"--steps is for a dry run: add --dry-run to try {options.steps} steps of every training, or say "
            f"`pretrain.steps={options.steps}` to pre-train for so many"
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
    from .display import TerminalDisplay
    from .planning.dry_run import STEPS, dry_run, print_dry_run

    given = {"--store": options.store is not None, "--elastic": options.elastic}
    if useless := [option for option, is_given in given.items() if is_given]:
        raise OssicleError(
            f"{' and '.join(useless)} cannot go with --dry-run, which goes on from nothing and keeps what it makes, if "
            "anything, in --out: leave one or the other out"
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


def _ablate(options: argparse.Namespace) -> int:
    from rich.console import Console

    from .ablation.runner import Options, ablate
    from .experiment.run import DEFAULT_OUT

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
    if options.verdict:
        return _verdicts(options)
    from .ablation.results import gather, print_results, written

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

    from .ablation.comparison import compare
    from .ablation.verdict_tables import print_comparison, verdict_markdown

    if options.format not in ("table", "markdown"):
        raise OssicleError(f"a verdict is written as a table or as markdown, not as {options.format}")
    for folder in options.runs:
        comparison = compare(folder)
        if options.format == "markdown":
            print(verdict_markdown(comparison))
        else:
            print_comparison(Console(), comparison)
    return 0


def _plan(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.text import Text

    from .experiment.run import DEFAULT_OUT
    from .planning.plan import plan
    from .planning.plan_view import print_plan

    console = Console(stderr=options.json)
    with console.status("planning") as status:
        found = plan(
            options.experiment,
            overrides=options.overrides,
            out=options.out or DEFAULT_OUT,
            store=options.store,
            calibrate=options.calibrate,
            price_per_hour=options.price_per_hour,
            on_stage=lambda name: status.update(Text(f"weighing {name}")),
        )
    if options.json:
        print(json.dumps(found.plain(), indent=2))
    else:
        print_plan(found, console)
    return 0


def _check(options: argparse.Namespace) -> int:
    from .core.config_files.experiment_loader import resolved_yaml
    from .core.corpora import Corpora
    from .core.display import Silent
    from .experiment.check import check

    checked = check(options.experiment, options.overrides, Corpora(Silent()), prepare=False)
    print(resolved_yaml(checked.experiment), end="")
    _warn_of(checked.plugins.catalog)
    print(f"{options.experiment}: nothing wrong; {len(checked.stages)} stages", file=sys.stderr)
    return 0


def _ensemble(options: argparse.Namespace) -> int:
    from rich.console import Console

    from .inference.ensemble import ensemble, print_ensembles

    found = ensemble(options.runs, task=options.task, subject=options.subject, view=options.view)
    print_ensembles(found, Console())
    return 0


def _plugins(options: argparse.Namespace) -> int:
    from .core.plugin_loading import load_plugins
    from .explain import interface_of

    catalog = load_plugins(options.files).catalog
    parts: list[dict[str, Any]] = [
        {
            "kind": part.kind,
            "name": part.name,
            "aliases": list(part.aliases),
            "origin": part.origin.describe(),
            "summary": part.summary,
        }
        for part in catalog.parts()
    ]
    if options.json:
        failures = [{"source": failure.source, "error": failure.error} for failure in catalog.failures]
        kinds = [
            {"name": one.name, "origin": one.origin.describe(), "interface": interface_of(one), "summary": one.summary}
            for one in catalog.part_kinds.values()
        ]
        print(json.dumps({"kinds": kinds, "parts": parts, "failures": failures}, indent=2))
        return 0
    widths = {column: max(len(part[column]) for part in parts) for column in ("kind", "name", "origin")}
    for part in parts:
        also = "".join(f" Formerly `{alias}`." for alias in part["aliases"])
        cells = [f"{part[column]:<{width}}" for column, width in widths.items()]
        print("  ".join([*cells, f"{part['summary']}{also}"]).rstrip())
    _warn_of(catalog)
    return 0


def _warn_of(catalog: Catalog) -> None:
    for failure in catalog.failures:
        print(f"warning: plugin {failure.source} failed: {failure.error}", file=sys.stderr)


def _explain(options: argparse.Namespace) -> int:
    from .core.plugin_loading import load_plugins
    from .explain import explain, explain_kind

    catalog = load_plugins(options.plugin).catalog
    print(explain(catalog.get(options.kind, options.name)) if options.name else explain_kind(catalog, options.kind))
    return 0


def _schema(options: argparse.Namespace) -> int:
    from .core.config_files.json_schema import experiment_schema
    from .core.plugin_loading import load_plugins

    print(json.dumps(experiment_schema(load_plugins(options.plugin).catalog), indent=2))
    return 0


def _new(options: argparse.Namespace) -> int:
    from .scaffold import new_tokenizer

    folder = new_tokenizer(options.name, options.into)
    for path in sorted(folder.iterdir()):
        print(path)
    print(f"{folder / 'README.md'} has the commands", file=sys.stderr)
    return 0


def _embed(options: argparse.Namespace) -> int:
    from .inference.export import embed_files

    return _exported(embed_files, options)


def _tokenize(options: argparse.Namespace) -> int:
    from .inference.export import tokenize_files

    return _exported(tokenize_files, options)


def _tokens(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.text import Text

    from .experiment.output_paths import check_page
    from .token_cards import measure_tokenizers, write_token_cards
    from .token_cards.card import CardOptions
    from .token_cards.terminal import print_cards

    check_page("--out", options.out)
    console = Console()
    asked = CardOptions(clips=options.clips, seed=options.seed, split=options.split, codes=options.code)
    with console.status("loading") as status:
        found = measure_tokenizers(
            options.tokenizers,
            options.corpus,
            asked,
            plugins=options.plugin,
            on_step=lambda step: status.update(Text(step)),
        )
        figures = write_token_cards(found, options.out)
    print_cards(found, console)
    print(f"{options.out}, {figures}")
    return 0


def _bench(options: argparse.Namespace) -> int:
    from rich.console import Console

    from .benchmarks.bench_runner import bench

    extent = ["--quick"] if options.quick else ["--targets"] if options.targets else []
    only = ["--only", *options.only] if options.only else []
    peers = [word for peer in options.peer for word in ("--peer", peer.name)]
    bench(
        # In a log there is room for every column.
        Console(width=None if sys.stdout.isatty() else 120),
        quick=options.quick,
        targets=options.targets,
        only=options.only,
        peers=options.peer,
        out=options.out,
        command=" ".join(["ossicle bench", *extent, *only, *peers]),
    )
    return 0


def _import(options: argparse.Namespace) -> int:
    from .inference.checkpoints import import_file

    artifact = import_file(options.file, options.out)
    for note in artifact.card["warnings"]:
        print(f"note: {note}", file=sys.stderr)
    print(f"{', '.join(sorted(artifact.card['parts']))} -> {artifact.path}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from .inference.checkpoints import export

    for note in export(options.source, options.out, part=options.part, plugins=options.plugin).notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{options.source} -> {options.out}")
    return 0


def _exported(export: Callable[..., int], options: argparse.Namespace) -> int:
    files = export(
        options.part,
        options.audio,
        options.out,
        plugins=options.plugin,
        window_seconds=options.window_seconds,
        overlap_seconds=options.overlap_seconds,
    )
    print(f"{files} files -> {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
