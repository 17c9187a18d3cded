"""Prepare a tokenizer: draw it from its seed, or fit it to one pass over a corpus."""

from __future__ import annotations

from collections.abc import Iterator

from ..audio.pipeline import clip_batches
from ..audio.surveying import good_rows
from ..core.data import PatchBatch
from ..core.errors import PluginError
from ..core.interfaces import FrontEnd, Tokenizer
from ..core.parts import build, load_part, save_part
from ..core.running import StageRun


def prepare(run: StageRun) -> None:
    """Write the tokenizer, and the front end that it was made for, as parts of the artifact."""
    settings = run.stage.settings
    front_end = load_part(run.inputs["survey"], "front_end", FrontEnd, run.plugins.catalog)
    offers = {"patch_dim": front_end.patch_dim, "bands": front_end.bands}
    tokenizer = build(settings["tokenizer"], Tokenizer, seed=run.stage.seed, **offers)
    if tokenizer.objective is not None:
        raise PluginError(
            f"tokenizer `{settings['tokenizer'].name}` is trained by the objective `{tokenizer.objective}`, "
            f"which this schedule has no stage for"
        )
    if tokenizer.is_fitted:
        tokenizer.fit(_patches(run, front_end))
    run.parts["tokenizer"] = save_part(run.folder, "tokenizer", tokenizer, settings["tokenizer"], **offers)
    run.copy_part("survey", "front_end")
    run.metrics["codebook_size"] = tokenizer.codebook_size


def _patches(run: StageRun, front_end: FrontEnd) -> Iterator[PatchBatch]:
    settings = run.stage.settings
    manifest = run.manifest()
    rows = good_rows(run.inputs["survey"], manifest, settings["splits"])
    seconds = {"batch_seconds": settings["batch_seconds"], "crop_seconds": settings["crop_seconds"]}
    for batch in clip_batches(manifest, rows, front_end, **seconds):
        yield front_end.patches(batch)
