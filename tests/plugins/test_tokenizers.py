"""Every tokenizer in an experiment: listed by both schedules, planned, trained or fitted, measured and read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ossicle
from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.errors import ConfigError
from ossicle.core.stages import Stage
from ossicle.experiment.check import check
from ossicle.experiment.run import run
from ossicle.inference.export import tokenize_files
from ossicle.planning.plan import plan
from ossicle.report.record import RunRecord

PROJECTION = "{type: random_projection, codebook_size: 16, codebook_dim: 4}"
DISTILL = (
    "distill: {steps: 2, log_every: 1, checkpoint_every: 2, batch_seconds: 4, "
    "objective: {type: distillation, estimator: {layers: 1, heads: 2}}}"
)
TOKENIZERS = {
    "best-rq": PROJECTION.replace("}", ", normalize: l2, codebooks: 3}"),
    "k-means": "{type: kmeans, codebook_size: 8}",
    "hubert": "{type: kmeans, codebook_size: 8, layer: 1}",
    "fsq": "{type: fsq_distilled, levels: [4, 3]}",
    "residual": "{type: residual_distilled, codebook_size: 8, codebook_dim: 4, codebooks: 2}",
    "position": "{type: position, columns: 8}",
    "shuffled": f"{{type: shuffled, tokenizer: {PROJECTION}}}",
}
NEEDS_TEACHER = {"hubert", "fsq", "residual"}


def stages(tiny: Path, *overrides: str) -> dict[str, Stage]:
    checked = check(tiny, overrides, Corpora(Silent()), prepare=True)
    return {stage.name: stage for stage in checked.stages}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_single_tokenizer(tiny: Path, name: str) -> None:
    teacher = ", teacher: untrained" if name in NEEDS_TEACHER else ""
    found = stages(tiny, f"schedule={{type: single, tokenizer: {TOKENIZERS[name]}{teacher}, {DISTILL}}}")
    inputs = found["iteration 1/tokenizer"].inputs
    assert inputs.get("teacher") == ("untrained" if name in NEEDS_TEACHER else None)


@pytest.mark.parametrize("name", sorted(NEEDS_TEACHER))
def test_a_missing_teacher_is_reported(tiny: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="there is no previous encoder to teach tokenizer"):
        stages(tiny, f"schedule={{type: single, tokenizer: {TOKENIZERS[name]}, {DISTILL}}}")


def test_k_means_of_patches_refuses_a_teacher(tiny: Path) -> None:
    with pytest.raises(ConfigError, match="tokenizer `kmeans` does not learn from a teacher; remove `teacher`"):
        stages(tiny, "schedule={type: single, tokenizer: kmeans, teacher: untrained}")


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
def test_all_tokenizers_in_one_experiment(tiny: Path, tones: Path, tmp_path: Path) -> None:
    iterations = ", ".join(f"{{name: {name}, tokenizer: {tokenizer}}}" for name, tokenizer in TOKENIZERS.items())
    overrides = [
        f"schedule={{type: beats, {DISTILL}, iterations: [{iterations}]}}",
        *("pretrain.steps=2", "pretrain.log_every=1", "evaluate=[]"),
    ]
    planned = {one.stage.name: one for one in plan(tiny, overrides=overrides).stages}
    assert not [one.unknown for one in planned.values() if one.unknown]
    trainings = {name: planned[f"{name}/pretrain"].training for name in TOKENIZERS}
    assert all(trainings.values())

    folder = run(tiny, overrides=overrides, out=tmp_path / "runs")
    record = RunRecord.read(folder)
    codes = {one.subject: one.codes for one in record.tokens}
    assert not record.problems
    assert codes == {
        "best-rq": "3 × 16",
        "k-means": "8",
        "hubert": "8",
        "fsq": "12",
        "residual": "2 × 8",
        "position": "16",
        "shuffled": "16",
    }
    assert all(one.used > 1 for one in record.tokens)
    measured = {one.name: one for one in record.stages if one.kind == "tokens"}["tokens/tones/best-rq"]
    by_stream = json.loads((measured.folder / "tokens.json").read_text())["by_stream"]
    assert len({one["perplexity"] for one in by_stream}) == 3, "the codebooks must differ"
    made = {one.name: one.folder for one in record.stages}
    assert ossicle.load(made["hubert/tokenizer"]).tokenizer is not None
    check_files_of_tokens(made["residual/tokenizer"], tones, tmp_path)


def check_files_of_tokens(tokenizer: Path, tones: Path, tmp_path: Path) -> None:
    """Check that several tokens of a patch are a list in a table, and a further axis of an array."""
    import numpy as np
    import pyarrow.parquet

    audio = [tones / "test" / "low" / "0.wav"]
    tokenize_files(tokenizer, audio, tmp_path / "tokens.npz")
    tokenize_files(tokenizer, audio, tmp_path / "tokens.parquet")
    with np.load(tmp_path / "tokens.npz", allow_pickle=False) as arrays:
        tokens, starts = arrays["token"], arrays["start"]
    table = pyarrow.parquet.read_table(tmp_path / "tokens.parquet")
    assert tokens.shape == (len(starts), 2)
    assert table["token"].to_pylist() == tokens.tolist()
