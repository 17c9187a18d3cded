"""Fine-tune an encoder with a head on labelled clips, for an evaluation or as a teacher. The actions of its stages.

Notable choices:

- The weights to keep are selected by step or by the validation clips, never by test clips. The score names the rule.
- Under cross-validation each fold trains a separate model. The results of finished folds survive an interruption.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...audio.patch_batches import patch_batches
from ...core.build import build
from ...core.choices import PartChoice
from ...core.distributed import from_all_ranks, from_first_rank, rank
from ...core.errors import CorpusError, PluginError
from ...core.interfaces import Encoder, FrontEnd, Head, Objective
from ...core.manifest import Manifest
from ...core.parts import save_part
from ...core.stage_runner import StageRun
from ...core.stages import CorpusStage
from ...training.corpus_training import train_on_corpus
from ...training.engine import CheckpointHistory
from ..evaluation.features import judged_rows
from ..evaluation.metrics import figure, metric_name
from ..evaluation.protocols import NO_FOLD, LabelledRows, LabelledSplits, lessons, protocols
from ..evaluation.results import Outcome, save_result, task_result
from ..evaluation.subsets import balanced_weights, label_subset
from .fine_tune_config import FineTuneConfig, FineTuningConfig
from .specs import FineTunedEvaluationStage, FineTuneStage

VIEW = "fine-tuned"
FINISHED = "finished.json"
PREDICTIONS = "predictions.npy"


def evaluate(run: StageRun[FineTunedEvaluationStage]) -> None:
    """Fine-tune on the training clips and classify the test clips, for every fold if the corpus has folds.

    Writes `scores.json` and `predictions.npz` as every task does, and the curves of each training.

    Raises:
        ConfigError: if the encoder lacks an option in `encoder_options`
        CorpusError: if a required split is empty or the clips have no labels
    """
    config = run.stage.task.config
    assert isinstance(config, FineTuneConfig)
    manifest = run.manifest()
    rows = judged_rows(run.inputs["survey"], manifest)
    clips = manifest.take(rows)
    given = protocols(clips)
    outcomes = [_outcome_of(run, config, rows, splits) for splits in given]
    result = task_result(given, {VIEW: outcomes}, scale="logits", seed=run.stage.seed)
    save_result(run, result, rows, multi_label=clips.multi_label)


def fine_tune(run: StageRun[FineTuneStage]) -> None:
    """Fine-tune on the clips of `train`, or of all folds, and save the encoder and its head.

    Raises:
        ConfigError: if the encoder lacks an option in `encoder_options`
        CorpusError: if the labels do not suffice, or `select: best` has no validation clips
    """
    config = run.stage.training
    manifest = run.manifest()
    rows = judged_rows(run.inputs["survey"], manifest)
    train, valid = lessons(manifest.take(rows))
    lesson = _Lesson.of(rows, train, valid)
    if config.select == "best" and lesson.valid is None:
        raise CorpusError(
            "`select: best` chooses on `valid` clips, and this corpus has none besides the training clips; "
            "set `select: last`"
        )
    model, chosen = _learn(run, config, lesson)
    run.parts["encoder"] = save_part(run.folder, "encoder", model.encoder)
    run.parts["head"] = save_part(run.folder, "head", model.head)
    run.copy_part("encoder", "front_end")
    run.metrics |= chosen
    run.metrics |= {"label_names": list(manifest.label_names), "multi_label": manifest.multi_label}


@dataclass(frozen=True)
class _Lesson:
    """The training and validation clips of a model. Rows refer to the corpus's manifest."""

    train: LabelledRows
    valid: LabelledRows | None

    @classmethod
    def of(cls, rows: npt.NDArray[np.int64], train: LabelledRows, valid: LabelledRows | None) -> _Lesson:
        return cls(replace(train, rows=rows[train.rows]), valid and replace(valid, rows=rows[valid.rows]))


@dataclass(frozen=True)
class _Classifier:
    """The parts that classify a clip."""

    front_end: FrontEnd
    encoder: Encoder
    head: Head

    @classmethod
    def of(cls, objective: Objective, front_end: FrontEnd) -> _Classifier:
        encoder, head = (objective.parts().get(role) for role in ("encoder", "head"))
        if not isinstance(encoder, Encoder) or not isinstance(head, Head):
            raise PluginError(
                f"to fine-tune, `{type(objective).__name__}.parts` must return an `encoder` and a `head`, "
                f"but it returns {', '.join(objective.parts()) or 'nothing'}"
            )
        return cls(front_end, encoder, head)

    @torch.inference_mode()
    def logits(self, manifest: Manifest, rows: npt.NDArray[np.int64], config: FineTuningConfig) -> Tensor:
        """Classify clips: (rows,) of a manifest to (rows, classes) float32. Longer clips are cut to `crop_seconds`."""
        found: dict[int, Tensor] = {}
        batches = patch_batches(
            manifest, rows, self.front_end, batch_seconds=config.batch_seconds, crop_seconds=config.crop_seconds
        )
        for batch in batches:
            logits = self.head(self.encoder(batch)).float().cpu()
            found |= zip(batch.rows, logits, strict=True)
        if len(found) < len(rows):
            raise CorpusError(f"{len(rows) - len(found)} clips can no longer be read; the warnings above say why")
        return torch.stack([found[row] for row in rows.tolist()])


def _learn(run: StageRun[CorpusStage], config: FineTuningConfig, lesson: _Lesson) -> tuple[_Classifier, dict[str, Any]]:
    """Train a classifier. Return it with the choices made in training, such as the selected weights."""
    manifest = run.manifest()
    front_end = run.part("encoder", "front_end", FrontEnd)
    objective = objective_of(run)
    model = _Classifier.of(objective, front_end)
    label_seed = run.stage.label_seed if isinstance(run.stage, FineTuneStage) else run.stage.seed
    subset = label_subset(lesson.train.truth, config.label_share, seed=label_seed)
    chosen: dict[str, Any] = {"rule": config.rule, "training_clips": len(subset)}

    def score() -> float | None:
        if lesson.valid is None:
            return None
        logits = model.logits(manifest, lesson.valid.rows, config).numpy()
        return figure(lesson.valid.truth, logits, multi_label=manifest.multi_label)

    def choose(history: CheckpointHistory) -> None:
        name, value = choose_weights(history, config, score)
        chosen["weights"] = name
        if value is not None:
            chosen[f"valid_{metric_name(multi_label=manifest.multi_label)}"] = value

    train_on_corpus(
        run,
        objective,
        front_end,
        config,
        rows=lesson.train.rows[subset],
        weights=balanced_weights(lesson.train.truth[subset]) if config.balanced else None,
        keep_checkpoints=config.kept_checkpoints,
        choose_weights=choose,
    )
    return model, chosen


def choose_weights(
    history: CheckpointHistory, config: FineTuningConfig, score: Callable[[], float | None]
) -> tuple[str, float | None]:
    """Load the weights that the configuration's rule selects, and return their name and validation score.

    Among equal scores the later checkpoint wins, and the mean of several checkpoints wins over single ones.

    Args:
        history: the last checkpoints
        score: returns the validation score of the loaded weights, higher is better; None without validation clips
    """
    last = tuple(history.steps[-config.average_last :])
    candidates = [last]
    if config.select == "best":
        singles = [(step,) for step in history.steps[-config.best_of :]]
        candidates = [*(single for single in singles if single != last), last]
    scored: list[tuple[float | None, tuple[int, ...]]] = []
    for steps in candidates:
        history.load(steps)
        scored.append((score(), steps))
    value, best = max(reversed(scored), key=lambda found: found[0] or 0.0)
    if best != candidates[-1]:
        history.load(best)
    return _named(best), value


def _named(steps: tuple[int, ...]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"mean of steps {', '.join(map(str, steps))}"


def objective_of(run: StageRun[CorpusStage]) -> Objective:
    """Build the objective that either action trains. Each fold builds a new one.

    Raises:
        ConfigError: if the encoder lacks an option in `encoder_options`
    """
    config, manifest = run.stage.training_config, run.manifest()
    assert isinstance(config, FineTuningConfig)
    catalog, seed = run.plugins.catalog, run.stage.seed
    encoder = run.part("encoder", "encoder", Encoder, options=config.encoder_options)
    front_end = run.part("encoder", "front_end", FrontEnd)
    head = build(
        config.head or PartChoice.of(catalog.get("head", "linear"), {}),
        Head,
        seed=seed,
        width=encoder.width,
        classes=len(manifest.label_names),
        bands=front_end.bands,
    )
    return build(
        config.objective or PartChoice.of(catalog.get("objective", "classification"), {}),
        Objective,
        seed=seed,
        encoder=encoder,
        head=head,
        multi_label=manifest.multi_label,
    )


def _outcome_of(
    run: StageRun[CorpusStage], config: FineTuneConfig, rows: npt.NDArray[np.int64], splits: LabelledSplits
) -> Outcome:
    """Return the predictions of the model of one protocol. Train it unless an earlier run of the stage finished it."""
    name = "" if splits.fold == NO_FOLD else f"fold {splits.fold}"
    results = run.work / "results" / name
    if not from_first_rank((results / FINISHED).is_file()):
        if name:
            run.display.note(f"{run.stage.name}, {name}")
        # All processes train, but only the first one writes results.
        folder = results if rank() == 0 else run.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        part = replace(run, work=run.work / "training" / name, folder=folder, metrics={}, warnings=[])
        for path in (part.work, folder):
            path.mkdir(parents=True, exist_ok=True)
        model, chosen = _learn(part, config, _Lesson.of(rows, splits.train, splits.valid))
        if rank() == 0:
            np.save(results / PREDICTIONS, model.logits(run.manifest(), rows[splits.test.rows], config).numpy())
            _write_whole(results / FINISHED, {"chosen": chosen, "metrics": part.metrics, "warnings": part.warnings})
        from_all_ranks(None)
        shutil.rmtree(part.work, ignore_errors=True)
    return _gathered(run, results, name)


def _write_whole(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, so that it is complete if it exists."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value))
    draft.replace(path)


def _gathered(run: StageRun[CorpusStage], results: Path, name: str) -> Outcome:
    """Copy the results of a finished training into those of the stage, its curves into a subfolder `name`."""
    finished = json.loads((results / FINISHED).read_text())
    shutil.copytree(
        results, run.folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns(FINISHED, PREDICTIONS)
    )
    for metric, value in finished["metrics"].items():
        run.metrics[metric] = run.metrics.get(metric, 0) + value
    run.warnings.extend(finished["warnings"])
    return Outcome(np.load(results / PREDICTIONS, allow_pickle=False), finished["chosen"])
