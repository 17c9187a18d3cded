"""Prepare a tokenizer: draw it from its seed, fit it to one pass over a corpus, or train it. A stage's action."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..audio.pipeline import clip_batches
from ..audio.surveying import good_rows
from ..core.config import PartChoice, TokenizerConfig
from ..core.data import PatchBatch
from ..core.distributed import compute_device
from ..core.interfaces import Encoder, FrontEnd, Head, Objective, Tokenizer
from ..core.parts import build, choice_of, load_part, save_part
from ..core.running import StageRun
from .pretraining import check_front_end
from .training import train_on_corpus
from .training_settings import TokenizerTrainingConfig


def prepare(run: StageRun) -> None:
    """Write the tokenizer, and the front end that it was made for, as parts of the artifact.

    Raises:
        ArtifactError: if the teacher was made for another front end
    """
    settings = run.stage.settings
    front_end = load_part(run.inputs["survey"], "front_end", FrontEnd, run.plugins.catalog)
    teacher = _teacher(run, front_end)
    offers = {
        "patch_dim": front_end.patch_dim,
        "bands": front_end.bands,
        "front_end": front_end,
        "encoder_choice": settings.get("encoder"),
        **teacher,
    }
    tokenizer = build(settings["tokenizer"], Tokenizer, seed=run.stage.seed, **offers)
    if "training" in settings:
        choice = _objective(run, settings["tokenizer"].config, settings["training"])
        objective = build(choice, Objective, seed=run.stage.seed, tokenizer=tokenizer, **offers)
        train_on_corpus(run, objective, front_end, settings["training"])
    elif tokenizer.is_fitted:
        tokenizer.fit(_patches(run, front_end))
    run.parts["tokenizer"] = save_part(run.folder, "tokenizer", tokenizer)
    run.copy_part("survey", "front_end")
    run.metrics["codebook_size"] = tokenizer.codebook_size
    run.metrics["parameters"] = sum(parameter.numel() for parameter in tokenizer.parameters())


def _objective(run: StageRun, tokenizer: TokenizerConfig, training: TokenizerTrainingConfig) -> PartChoice:
    if training.objective is not None:
        return training.objective
    assert tokenizer.objective is not None  # a schedule adds `training` to trained tokenizers alone
    return PartChoice.of(run.plugins.catalog.get("objective", tokenizer.objective), {})


def _teacher(run: StageRun, front_end: FrontEnd) -> Mapping[str, Any]:
    if "teacher" not in run.inputs:
        return {}
    check_front_end(run, "teacher", front_end)
    artifact = run.inputs["teacher"]
    device = compute_device()
    found: dict[str, Any] = {"teacher": load_part(artifact, "encoder", Encoder, run.plugins.catalog).to(device)}
    found["teacher_choice"] = choice_of(found["teacher"])
    if "head" in artifact.card["parts"]:
        found["teacher_head"] = load_part(artifact, "head", Head, run.plugins.catalog).to(device)
    return found


def _patches(run: StageRun, front_end: FrontEnd) -> Iterator[PatchBatch]:
    settings = run.stage.settings
    manifest = run.manifest()
    rows = good_rows(run.inputs["survey"], manifest, settings["splits"])
    seconds = {"batch_seconds": settings["batch_seconds"], "crop_seconds": settings["crop_seconds"]}
    for batch in clip_batches(manifest, rows, front_end, **seconds):
        yield front_end.patches(batch)
