"""Time a recipe of pre-training: how much processor time does it take to a given quality?

Trains the last pre-training of an experiment, whose `pretrain.watch` is `linear_probe`, and prints a row of
`experiments/SPEEDRUN.md`. Test clips are never used: validation clips serve as test clips, and a fifth of the training
clips chooses the strength of the probe.

    python experiments/speedrun.py experiments/speedrun.yaml --change "no EMA" --set pretrain.ema_decay=null
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

import ossicle
from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.task import Features, Task
from ossicle.tasks.evaluation.features import embed
from ossicle.tasks.stages.monitor_split import without_test

GOAL = 65.0
"""Accuracy in % of the probe of mean-pooled features that a recipe is timed to."""
VIEWS = ("mean", "bands", "bands+std")
TRANSFER = "{type: spoken_words}"
CROP_SECONDS = 10.0


def main() -> None:
    arguments = _parser().parse_args()
    artifacts = [_train(arguments.recipe, [*arguments.set, f"seed={seed}"], arguments.out) for seed in arguments.seeds]
    runs, untrained = zip(*artifacts, strict=True)
    if arguments.untrained:
        corpora = [_corpus_of(arguments.recipe), *arguments.transfer]
        scores = [[_probe(encoder, corpus) for encoder in untrained] for corpus in corpora]
        _print_row("untrained encoder", arguments.seeds, "0", "not", [_views(each) for each in scores])
    curves = [_curve(run) for run in runs]
    trained = [{view: _accuracy(curve[-1], view) for view in VIEWS} for curve in curves]
    transfers = [[_probe(run, corpus) for run in runs] for corpus in arguments.transfer]
    minutes = " / ".join(f"{curve[-1]['cpu_seconds'] / 60:.1f}" for curve in curves)
    to_goal = " / ".join(_minutes_to(GOAL, curve) for curve in curves)
    _print_row(arguments.change, arguments.seeds, minutes, to_goal, [_views(each) for each in (trained, *transfers)])


def _print_row(change: str, seeds: Sequence[int], minutes: str, to_goal: str, scores: Sequence[str]) -> None:
    cells = [f"{datetime.now(UTC):%Y-%m-%d}", _commit(), change, " ".join(map(str, seeds)), minutes, to_goal, *scores]
    print("| " + " | ".join(cells) + " |", flush=True)


def _views(scores: Sequence[Mapping[str, float]]) -> str:
    """The mean over seeds of every view."""
    return " / ".join(_mean([score[view] for score in scores]) for view in VIEWS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="experiment whose pre-training is timed")
    parser.add_argument("--change", default="", help="what the row shows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="+", default=[], metavar="PATH=VALUE", help="settings to change")
    parser.add_argument("--transfer", nargs="+", default=[TRANSFER], help="corpora to transfer to, in YAML")
    parser.add_argument("--untrained", action="store_true", help="also print a row of the encoder before training")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    return parser


def _train(recipe: Path, overrides: Sequence[str], out: Path) -> tuple[Path, Path]:
    """Run the experiment. Return the artifacts of its last pre-training and of the untrained encoder."""
    folder = ossicle.run(recipe, overrides=overrides, out=out)
    stages = json.loads((folder / "run.json").read_text())["stages"]
    artifacts = {stage["kind"]: folder / stage["artifact"] for stage in stages}
    return artifacts["pretrain"], artifacts["encoder"]


def _corpus_of(recipe: Path) -> str:
    return str(yaml.safe_dump(yaml.safe_load(recipe.read_text())["corpus"]))


def _curve(artifact: Path) -> list[dict[str, float]]:
    """Return the metrics of the steps at which the encoder was evaluated."""
    records = [json.loads(line) for line in (artifact / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if "monitor_accuracy_mean" in record]


def _accuracy(record: Mapping[str, float], view: str) -> float:
    return 100 * record[f"monitor_accuracy_{view}"]


def _minutes_to(goal: float, curve: Sequence[Mapping[str, float]]) -> str:
    """The processor minutes to a mean-pooled accuracy, interpolated between two evaluations."""
    minutes = [record["cpu_seconds"] / 60 for record in curve]
    scores = [_accuracy(record, "mean") for record in curve]
    above = [place for place, score in enumerate(scores) if score >= goal]
    if not above:
        return "not"
    last = above[0]
    if last == 0:
        return f"<{minutes[0]:.1f}"
    return f"{np.interp(goal, scores[last - 1 : last + 1], minutes[last - 1 : last + 1]):.1f}"


def _probe(artifact: Path, corpus: str) -> dict[str, float]:
    """Return the validation accuracy in % of every view of an encoder on a corpus."""
    part = ossicle.load(artifact)
    catalog = load_plugins([]).catalog
    stated: dict[str, Any] = yaml.safe_load(corpus)
    choice = PartChoice.of(catalog.get("corpus", stated.pop("type")), stated, catalog=catalog)
    manifest = Corpora(Silent()).manifest(choice)
    clips = without_test(manifest.take(np.flatnonzero(manifest.labels.counts > 0)))
    rows, views = embed(clips, np.arange(len(clips)), part.front_end, part.encoder, crop_seconds=CROP_SECONDS)
    task = build(PartChoice.of(catalog.get("task", "linear_probe"), {}, catalog=catalog), Task)
    result = task.evaluate(Features(clips.take(rows), views), seed=0)
    return {score.view: 100 * score.value for score in result.scores}


def _commit() -> str:
    here = Path(__file__).parent
    return subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=here, text=True).strip()


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f}" + (f" ({min(values):.1f}–{max(values):.1f})" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
