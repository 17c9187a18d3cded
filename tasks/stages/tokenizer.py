"""Prepare a tokenizer: draw it from its seed, fit it in one pass over a corpus, or train it.

The action of `TokenizerStage`.
"""

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
from .specs import TokenizerStage
from .tokenizer_training_config import TokenizerTrainingConfig


def prepare(run: StageRun[TokenizerStage]) -> None:
    """Write the tokenizer, and the front end that it was made for, as parts of the artifact.

    Raises:
        ArtifactError: if the teacher was made for another front end
    """
    stage = run.stage
    front_end = run.part("survey", "front_end", FrontEnd)
    if "teacher" in run.inputs:
        check_front_end(run, "teacher", front_end)
    offers = _offers(run, front_end)
    tokenizer = build(stage.tokenizer, Tokenizer, seed=stage.seed, **offers)
    if stage.training is not None:
        train_on_corpus(run, _objective(run, stage.training, tokenizer, offers), front_end, stage.training)
    elif tokenizer.is_fitted and not comes_trained(stage.tokenizer):
        tokenizer.to(compute_device()).fit(map(tokenizer.input_of, _patches(run, front_end)))
    run.parts["tokenizer"] = save_part(run.folder, "tokenizer", tokenizer)
    run.copy_part("survey", "front_end")
    run.metrics["codebook_size"] = tokenizer.codebook_size
    run.metrics["streams"] = tokenizer.streams
    run.metrics["parameters"] = sum(parameter.numel() for parameter in tokenizer.parameters())


def objective_of(run: StageRun[TokenizerStage]) -> Objective:
    """Build the objective that `prepare` trains. Only for stages with a training."""
    training = run.stage.training
    assert training is not None  # only stages with a training build an objective
    offers = _offers(run, run.part("survey", "front_end", FrontEnd))
    tokenizer = build(run.stage.tokenizer, Tokenizer, seed=run.stage.seed, **offers)
    return _objective(run, training, tokenizer, offers)


def _objective(
    run: StageRun[TokenizerStage],
    training: TokenizerTrainingConfig,
    tokenizer: Tokenizer,
    offers: Mapping[str, Any],
) -> Objective:
    choice = training.objective_of(run.stage.tokenizer, run.plugins.catalog)
    return build(choice, Objective, seed=run.stage.seed, tokenizer=tokenizer, **offers)


def _offers(run: StageRun[TokenizerStage], front_end: FrontEnd) -> dict[str, Any]:
    offers: dict[str, Any] = {"patch_dim": front_end.patch_dim, "bands": front_end.bands, "front_end": front_end}
    if "teacher" in run.inputs:
        device = compute_device()
        offers["teacher"] = run.part("teacher", "encoder", Encoder).to(device)
        offers["teacher_choice"] = choice_of(offers["teacher"])
        if run.holds("teacher", "head"):
            offers["teacher_head"] = run.part("teacher", "head", Head).to(device)
    encoder = run.stage.encoder
    if encoder is not None:
        # Only the architecture of a trained encoder is taken, without its weights.
        offers["encoder_choice"] = choice_of(build(encoder, Encoder, **offers)) if comes_trained(encoder) else encoder
    return offers


def _patches(run: StageRun[TokenizerStage], front_end: FrontEnd) -> Iterator[PatchBatch]:
    stage = run.stage
    manifest = run.manifest()
    rows = good_rows(run.inputs["survey"], manifest, stage.splits)
    return patch_batches(manifest, rows, front_end, batch_seconds=stage.batch_seconds, crop_seconds=stage.crop_seconds)
