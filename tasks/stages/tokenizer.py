"""Prepare a tokenizer: draw it from its seed, fit it to one pass over a corpus, or train it. A stage's action."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...audio.patch_batches import patch_batches
from ...audio.survey import good_rows
from ...core.build import build
from ...core.data import PatchBatch
from ...core.distributed import compute_device
from ...core.interfaces import Encoder, FrontEnd, Head, Objective, Tokenizer
from ...core.parts import choice_of, comes_trained, save_part
from ...core.stage_runner import StageRun
from ...training.corpus_training import train_on_corpus
from .pretrain import check_front_end
from .tokenizer_training_config import TokenizerTrainingConfig


def prepare(run: StageRun) -> None:
    """Write the tokenizer, and the front end that it was made for, as parts of the artifact.

    Raises:
        ArtifactError: if the teacher was made for another front end
    """
    settings = run.stage.settings
    front_end = run.part("survey", "front_end", FrontEnd)
    if "teacher" in run.inputs:
        check_front_end(run, "teacher", front_end)
    offers = _offers(run, front_end)
    tokenizer = build(settings["tokenizer"], Tokenizer, seed=run.stage.seed, **offers)
    if "training" in settings:
        train_on_corpus(run, _objective(run, tokenizer, offers), front_end, settings["training"])
    elif tokenizer.is_fitted and not comes_trained(settings["tokenizer"]):
        tokenizer.to(compute_device()).fit(_patches(run, front_end))
    run.parts["tokenizer"] = save_part(run.folder, "tokenizer", tokenizer)
    run.copy_part("survey", "front_end")
    run.metrics["codebook_size"] = tokenizer.codebook_size
    run.metrics["streams"] = tokenizer.streams
    run.metrics["parameters"] = sum(parameter.numel() for parameter in tokenizer.parameters())


def objective_of(run: StageRun) -> Objective:
    """Build what `prepare` trains, where it trains."""
    offers = _offers(run, run.part("survey", "front_end", FrontEnd))
    tokenizer = build(run.stage.settings["tokenizer"], Tokenizer, seed=run.stage.seed, **offers)
    return _objective(run, tokenizer, offers)


def _objective(run: StageRun, tokenizer: Tokenizer, offers: Mapping[str, Any]) -> Objective:
    training: TokenizerTrainingConfig = run.stage.settings["training"]
    choice = training.objective_of(run.stage.settings["tokenizer"], run.plugins.catalog)
    return build(choice, Objective, seed=run.stage.seed, tokenizer=tokenizer, **offers)


def _offers(run: StageRun, front_end: FrontEnd) -> dict[str, Any]:
    offers: dict[str, Any] = {"patch_dim": front_end.patch_dim, "bands": front_end.bands, "front_end": front_end}
    if "teacher" in run.inputs:
        device = compute_device()
        offers["teacher"] = run.part("teacher", "encoder", Encoder).to(device)
        offers["teacher_choice"] = choice_of(offers["teacher"])
        if run.holds("teacher", "head"):
            offers["teacher_head"] = run.part("teacher", "head", Head).to(device)
    if "encoder" in run.stage.settings:
        encoder = run.stage.settings["encoder"]
        # Only the architecture of a trained encoder is taken, without its weights.
        offers["encoder_choice"] = choice_of(build(encoder, Encoder, **offers)) if comes_trained(encoder) else encoder
    return offers


def _patches(run: StageRun, front_end: FrontEnd) -> Iterator[PatchBatch]:
    settings = run.stage.settings
    manifest = run.manifest()
    rows = good_rows(run.inputs["survey"], manifest, settings["splits"])
    seconds = {"batch_seconds": settings["batch_seconds"], "crop_seconds": settings["crop_seconds"]}
    return patch_batches(manifest, rows, front_end, **seconds)
