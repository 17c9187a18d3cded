"""Initialise and pre-train encoders. The actions of `EncoderStage` and `PretrainStage`."""

from __future__ import annotations

from typing import Any

from ...core.build import build
from ...core.distributed import compute_device
from ...core.errors import ArtifactError
from ...core.interfaces import Encoder, FrontEnd, Objective, Tokenizer
from ...core.parts import save_part
from ...core.stage_runner import StageRun
from ...core.stages import Stage
from ...tokenizers.token_cache import TokenCache, is_worth_caching
from ...training.corpus_training import train_on_corpus
from ...training.objective_extras import may_augment
from ...training.weight_average import average_weights
from .monitor import monitor
from .specs import EncoderStage, PretrainStage


def initialise(run: StageRun[EncoderStage]) -> None:
    """Write the untrained encoder, and the front end that it was made for, as parts of the artifact."""
    front_end = run.part("survey", "front_end", FrontEnd)
    run.parts["encoder"] = save_part(run.folder, "encoder", _build_encoder(run, front_end))
    run.copy_part("survey", "front_end")


def pretrain(run: StageRun[PretrainStage]) -> None:
    """Train the configured objective, and save the encoder.

    Raises:
        ArtifactError: if the tokenizer was made for another front end
    """
    front_end = run.part("survey", "front_end", FrontEnd)
    if "tokenizer" in run.inputs:
        check_front_end(run, "tokenizer", front_end)
    training = run.stage.training
    objective = _objective(run, front_end, _frozen_tokenizer(run))
    encoder = objective.parts()["encoder"]
    if training.ema_decay is not None:
        assert isinstance(encoder, Encoder)
        encoder = average_weights(objective, encoder, training.ema_decay).encoder
    evaluate = monitor(run, front_end, encoder, training)
    train_on_corpus(run, objective, front_end, training, monitor=evaluate)
    run.metrics["parameters"] = sum(weight.numel() for weight in objective.parts()["encoder"].parameters())
    run.parts["encoder"] = save_part(run.folder, "encoder", encoder)
    run.copy_part("survey", "front_end")
    if "tokenizer" in run.inputs:
        run.copy_part("tokenizer", "tokenizer")


def objective_of(run: StageRun[PretrainStage]) -> Objective:
    """Build the objective that `pretrain` trains."""
    tokenizer = run.part("tokenizer", "tokenizer", Tokenizer) if "tokenizer" in run.inputs else None
    return _objective(run, run.part("survey", "front_end", FrontEnd), tokenizer)


def _objective(run: StageRun[PretrainStage], front_end: FrontEnd, tokenizer: Tokenizer | None) -> Objective:
    offers: dict[str, Any] = {"patch_dim": front_end.patch_dim, "bands": front_end.bands}
    offers["encoder"] = _build_encoder(run, front_end)
    if tokenizer is not None:
        offers["tokenizer"] = tokenizer.to(compute_device())
    return build(run.stage.training.objective, Objective, seed=run.stage.seed, **offers)


def _frozen_tokenizer(run: StageRun[PretrainStage]) -> Tokenizer | None:
    """Load the tokenizer of a stage, with a cache if that is faster."""
    if "tokenizer" not in run.inputs:
        return None
    tokenizer = run.part("tokenizer", "tokenizer", Tokenizer)
    if not is_worth_caching(tokenizer, augmented=may_augment(run.stage.training.objective.part.load())):
        return tokenizer
    whole = run.manifest().seconds <= run.stage.training.crop_seconds
    return TokenCache(tokenizer, whole, run.work / "tokens.sqlite")


def check_front_end(run: StageRun[Stage], role: str, front_end: FrontEnd) -> None:
    """Check that an input was made for the front end of the survey.

    Raises:
        ArtifactError: if it was made for another front end
    """
    other = run.part(role, "front_end", FrontEnd)
    if other.fingerprint() != front_end.fingerprint():
        raise ArtifactError(
            f"the {role} in {run.inputs[role].path} was made for another front end or other statistics than "
            f"those in {run.inputs['survey'].path}. All parts of a chain need the same spectrogram. If it comes from "
            "a checkpoint, set `front_end: {checkpoint: PATH}` to the same"
        )


def _build_encoder(run: StageRun[EncoderStage | PretrainStage], front_end: FrontEnd) -> Encoder:
    return build(
        run.stage.encoder,
        Encoder,
        seed=run.stage.seed,
        patch_dim=front_end.patch_dim,
        bands=front_end.bands,
        front_end=front_end,
    )
