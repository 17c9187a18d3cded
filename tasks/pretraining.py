"""Pre-train an encoder: the actions of the stages that make encoders."""

from __future__ import annotations

from ..core.distributed import compute_device
from ..core.errors import ArtifactError
from ..core.experiment import PretrainConfig
from ..core.interfaces import Encoder, FrontEnd, Objective, Tokenizer
from ..core.parts import build, load_part, save_part
from ..core.running import StageRun
from .training import train_on_corpus


def initialise(run: StageRun) -> None:
    """Write an encoder as its seed draws it, beside the front end that it was made for."""
    front_end = load_part(run.inputs["survey"], "front_end", FrontEnd, run.plugins.catalog)
    run.parts["encoder"] = save_part(run.folder, "encoder", _build_encoder(run, front_end))
    run.copy_part("survey", "front_end")


def pretrain(run: StageRun) -> None:
    """Train the objective that the settings name, and keep the parts that it hands on.

    Raises:
        ArtifactError: if the tokenizer was made for another front end
    """
    training: PretrainConfig = run.stage.settings["training"]
    catalog = run.plugins.catalog
    front_end = load_part(run.inputs["survey"], "front_end", FrontEnd, catalog)
    tokenizer = load_part(run.inputs["tokenizer"], "tokenizer", Tokenizer, catalog)
    check_front_end(run, "tokenizer", front_end)
    encoder = _build_encoder(run, front_end)
    objective = build(
        training.objective,
        Objective,
        seed=run.stage.seed,
        encoder=encoder,
        tokenizer=tokenizer.to(compute_device()),
        patch_dim=front_end.patch_dim,
        bands=front_end.bands,
    )
    train_on_corpus(run, objective, front_end, training)
    run.metrics["parameters"] = sum(parameter.numel() for parameter in encoder.parameters())
    run.parts["encoder"] = save_part(run.folder, "encoder", objective.parts()["encoder"])
    run.copy_part("survey", "front_end")
    run.copy_part("tokenizer", "tokenizer")


def check_front_end(run: StageRun, role: str, front_end: FrontEnd) -> None:
    """Refuse an input that was made for another front end than the survey's.

    Raises:
        ArtifactError: if it was
    """
    other = load_part(run.inputs[role], "front_end", FrontEnd, run.plugins.catalog)
    if other.fingerprint() != front_end.fingerprint():
        raise ArtifactError(
            f"the {role} in {run.inputs[role].path} was made for another front end or other statistics than "
            f"those in {run.inputs['survey'].path}; all parts of a chain must hear the same spectrogram"
        )


def _build_encoder(run: StageRun, front_end: FrontEnd) -> Encoder:
    return build(
        run.stage.settings["encoder"],
        Encoder,
        seed=run.stage.seed,
        patch_dim=front_end.patch_dim,
        bands=front_end.bands,
        front_end=front_end,
    )
