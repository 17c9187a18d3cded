"""Released checkpoints to artifacts and back, and as parts of an experiment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import ossicle
from ossicle.cli import main
from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.config_files.json_schema import experiment_schema
from ossicle.core.corpora import Corpora
from ossicle.core.display import Silent
from ossicle.core.errors import ArtifactError, ConfigError, OssicleError
from ossicle.core.interfaces import Encoder, FrontEnd, Head, Tokenizer
from ossicle.core.parts import save_part
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.store import Artifact
from ossicle.experiment.check import check
from ossicle.inference.checkpoints import export, import_file

RATE = 16000
GOLDEN = ["deepnorm", "deepnorm_b320", "glu", "postnorm_relonly", "prenorm", "finetuned", "tokenizer"]
CATALOG = load_plugins().catalog
SMALL = {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "patch_width": 8, "conv_position_kernel": 4}
EXPECTED: Mapping[str, Any] = {"front_end": FrontEnd, "encoder": Encoder, "head": Head, "tokenizer": Tokenizer}


def made(kind: str, name: str, config: Mapping[str, Any] = {}, **offers: Any) -> nn.Module:
    choice = PartChoice.of(CATALOG.get(kind, name), config, catalog=CATALOG)
    part = build(choice, EXPECTED[kind], seed=1, **({"patch_dim": 256, "bands": 8} | offers))
    assert isinstance(part, nn.Module)
    return part


def artifact(folder: Path, metrics: Mapping[str, Any] | None = None, **parts: nn.Module) -> Path:
    """Make an artifact with these parts, in the format of a stage."""
    folder.mkdir()
    entries = {role: save_part(folder, role, part) for role, part in parts.items()}
    (folder / "card.json").write_text(json.dumps({"key": folder.name, "parts": entries, "metrics": metrics or {}}))
    return folder


def audioset() -> nn.Module:
    return made("front_end", "kaldi_fbank")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small encoder and a small tokenizer in the released format."""
    home = tmp_path_factory.mktemp("released")
    encoder = made("encoder", "beats", SMALL)
    tokenizer = made(
        "tokenizer",
        "self_distilled",
        {"encoder": {"type": "beats", **SMALL}, "codebook_size": 12, "codebook_dim": 4},
        encoder_choice=None,
    )
    export(artifact(home / "one", front_end=audioset(), encoder=encoder), home / "encoder.pt")
    export(artifact(home / "two", front_end=audioset(), tokenizer=tokenizer), home / "tokenizer.pt")
    return {"encoder": home / "encoder.pt", "tokenizer": home / "tokenizer.pt"}


def sound(samples: int = RATE) -> np.ndarray[Any, Any]:
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDEN)
def test_importing_and_exporting_gives_the_same_file(golden: Path, tmp_path: Path, name: str) -> None:
    expected = content_of(golden / f"{name}.pt")
    if name == "finetuned":
        expected["label_dict"] = {number: f"/m/{number}" for number in range(5)}
    torch.save(expected, tmp_path / "given.pt")
    assert main(["import", str(tmp_path / "given.pt"), "--out", str(tmp_path / "artifact")]) == 0
    assert main(["export", str(tmp_path / "artifact"), "--out", str(tmp_path / "back.pt")]) == 0
    found = content_of(tmp_path / "back.pt")
    assert found.keys() == expected.keys()
    assert found["cfg"] == expected["cfg"]
    assert found.get("label_dict") == expected.get("label_dict")
    assert found["model"].keys() == expected["model"].keys()
    for key, value in expected["model"].items():
        assert torch.equal(found["model"][key], value), key


def test_an_imported_artifact_states_its_source(files: dict[str, Path], tmp_path: Path) -> None:
    imported = import_file(files["encoder"], tmp_path / "new" / "artifact")
    source = imported.card["source"]
    assert (source["file"], source["kind"], source["layout"]) == ("encoder.pt", "encoder", "microsoft")
    assert len(source["sha256"]) == 64
    assert "unknown" in source["licence"]
    assert sorted(path.name for path in imported.path.iterdir()) == [
        "card.json",
        "encoder.safetensors",
        "front_end.safetensors",
    ]
    assert imported.card["parts"]["encoder"]["type"] == "beats"
    one, two = (ossicle.load(path).embed(sound(), sample_rate=RATE) for path in (files["encoder"], imported.path))
    assert torch.equal(one.sequence, two.sequence)


def test_a_tokenizer_gives_the_same_tokens_after_the_import(files: dict[str, Path], tmp_path: Path) -> None:
    imported = import_file(files["tokenizer"], tmp_path / "artifact")
    one, two = (ossicle.load(path).tokenize(sound(), sample_rate=RATE) for path in (files["tokenizer"], imported.path))
    assert one.codebook_size == 12
    assert one.ids.unique().numel() > 1
    assert torch.equal(one.ids, two.ids)


def test_imports_that_are_refused(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert main(["import", str(files["encoder"]), "--out", str(tmp_path / "full")]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "full"), "--out", str(tmp_path / "new")]) == 2
    assert "is a folder; only released files" in capsys.readouterr().err
    (tmp_path / "junk.pt").write_text("junk")
    assert main(["import", str(tmp_path / "junk.pt"), "--out", str(tmp_path / "new")]) == 2
    assert "not a checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_statistics_of_another_corpus_are_written_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    front_end = made("front_end", "kaldi_fbank", {"mean": 12.5, "std": 4.25})
    own = artifact(tmp_path / "own", front_end=front_end, encoder=made("encoder", "beats", SMALL))
    assert main(["export", str(own), "--out", str(tmp_path / "own.pt")]) == 0
    assert "call the released code with fbank_mean=12.5, fbank_std=4.25" in capsys.readouterr().err
    cfg = content_of(tmp_path / "own.pt")["cfg"]
    assert (cfg["fbank_mean"], cfg["fbank_std"]) == (12.5, 4.25)
    one, two = (ossicle.load(path).embed(sound(), sample_rate=RATE) for path in (own, tmp_path / "own.pt"))
    assert torch.equal(one.sequence, two.sequence)


def test_a_classifier_is_exported_with_its_labels(tmp_path: Path) -> None:
    own = artifact(
        tmp_path / "own",
        {"label_names": ["dog", "rain", "car"], "multi_label": True},
        front_end=audioset(),
        encoder=made("encoder", "beats", SMALL),
        head=made("head", "linear", {"dropout": 0.1}, width=16, classes=3),
    )
    assert not export(own, tmp_path / "own.pt").notes
    content = content_of(tmp_path / "own.pt")
    assert content["label_dict"] == {0: "dog", 1: "rain", 2: "car"}
    assert (content["cfg"]["finetuned_model"], content["cfg"]["predictor_class"]) == (True, 3)
    one, two = (ossicle.load(path).classify(sound(), sample_rate=RATE) for path in (own, tmp_path / "own.pt"))
    assert one.labels == two.labels == ("dog", "rain", "car")
    torch.testing.assert_close(one.probabilities, two.probabilities)


def test_probabilities_of_exclusive_classes_sum_to_one(tmp_path: Path) -> None:
    own = artifact(
        tmp_path / "own",
        {"label_names": ["dog", "rain"], "multi_label": False},
        front_end=audioset(),
        encoder=made("encoder", "beats", SMALL),
        head=made("head", "linear", width=16, classes=2),
    )
    assert ossicle.load(own).classify(sound(), sample_rate=RATE).probabilities.sum().item() == pytest.approx(1)
    assert "exclude each other" in export(own, tmp_path / "own.pt").notes[0]


def test_everything_that_the_released_code_does_not_support_is_listed(tmp_path: Path) -> None:
    front_end = made("front_end", "kaldi_fbank", {"mel_bins": 64, "patch_frames": 8, "per_bin": True})
    offers = {"patch_dim": 128, "bands": 4}
    own = artifact(
        tmp_path / "own",
        front_end=front_end,
        encoder=made("encoder", "plain_vit", {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16}, **offers),
        head=made("head", "attentive", width=16, classes=3),
        tokenizer=made("tokenizer", "random_projection", {"codebook_size": 8, "codebook_dim": 4}, **offers),
    )
    with pytest.raises(ArtifactError) as caught:
        export(own, tmp_path / "own.pt")
    for reason in ("PlainVit", "64 mel bins", "8 frames x 16 bins", "`per_bin`", "AttentiveHead"):
        assert reason in str(caught.value)
    with pytest.raises(ArtifactError, match="its tokenizer is a RandomProjection"):
        export(own, tmp_path / "own.pt", part="tokenizer")
    assert not (tmp_path / "own.pt").exists()


def test_exports_that_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="`ossicle import` makes an artifact of a file"):
        export(files["encoder"], tmp_path / "out.pt")
    imported = import_file(files["encoder"], tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="holds no tokenizer; it holds: encoder, front_end"):
        export(imported.path, tmp_path / "out.pt", part="tokenizer")


EXPERIMENT = """\
name: small
corpus: {{type: folder, path: {tones}}}
front_end: {{checkpoint: {home}/encoder.pt}}
encoder: {{checkpoint: {home}/encoder.pt}}
schedule:
  type: beats
  iterations:
    - tokenizer: {{checkpoint: {home}/tokenizer.pt}}
    - tokenizer: {{type: self_distilled, codebook_size: 8, codebook_dim: 4, encoder: {{checkpoint: ./encoder.pt}}}}
      distill: {{steps: 1, batch_seconds: 4, threads: 1}}
pretrain:
  {{steps: 1, batch_seconds: 4, log_every: 1, checkpoint_every: 1, threads: 1,
    objective: {{type: masked_prediction, predictor: {{layers: 1, heads: 2}}}}}}
"""


@pytest.fixture
def experiment(files: dict[str, Path], tones: Path, tmp_path: Path) -> Path:
    for path in files.values():
        shutil.copy(path, tmp_path)
    (tmp_path / "small.yaml").write_text(EXPERIMENT.format(tones=tones, home="."))
    return tmp_path / "small.yaml"


def parts_in(run: Path, kind: str) -> list[Artifact]:
    stages = json.loads((run / "run.json").read_text())["stages"]
    return [Artifact((run / stage["artifact"]).resolve()) for stage in stages if stage["kind"] == kind]


@pytest.mark.slow
def test_every_part_of_an_experiment_may_come_from_a_checkpoint(
    experiment: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    run = ossicle.run(experiment, out=tmp_path / "runs")
    (start,) = parts_in(run, "encoder")
    released = content_of(files["encoder"])["model"]
    weights = load_file(start.path / "encoder.safetensors")
    assert torch.equal(weights["stem.norm.weight"], released["layer_norm.weight"])
    given, taught = parts_in(run, "tokenizer")
    codes = load_file(given.path / "tokenizer.safetensors")["codebook.codes"]
    assert torch.equal(codes, content_of(files["tokenizer"])["model"]["quantize.embedding.weight"])
    assert taught.card["parts"]["tokenizer"]["config"]["encoder"]["type"] == "beats"
    for path in (tmp_path / "encoder.pt", tmp_path / "tokenizer.pt"):
        path.unlink()
    loaded = ossicle.load(run)
    assert loaded.tokenize(sound(), sample_rate=RATE).codebook_size == 8
    assert loaded.embed(sound(), sample_rate=RATE).clip.shape == (1, 16)
    assert not export(run, tmp_path / "back.pt").notes, "the statistics are still AudioSet's"
    again = {"encoder": run, "front_end": run, "tokenizer": run}
    parts = {role: made(role, "checkpoint", {"path": str(path)}) for role, path in again.items()}
    assert isinstance(parts["encoder"], Encoder)
    assert parts["encoder"].width == 16


def checked(experiment: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(experiment, overrides, Corpora(Silent()), prepare=False)
    return str(caught.value)


def test_a_checkpoint_replaces_another_part(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "over.yaml").write_text("base: ./small.yaml\nencoder: {type: beats, size: tiny}\n")
    (tmp_path / "again.yaml").write_text("base: ./over.yaml\nencoder: {checkpoint: ./encoder.pt}\n")
    found = check(tmp_path / "again.yaml", [], Corpora(Silent()), prepare=False).experiment.encoder
    assert found.plain() == {"type": "checkpoint", "path": str(tmp_path / "encoder.pt")}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("encoder: {checkpoint: ./none.pt}", "4:10: `encoder`: `"),
        ("encoder: {checkpoint: 3}", "4:10: `encoder` must name a file or folder in `checkpoint`, but names `3`"),
        ("encoder: {checkpoint: ./encoder.pt, size: tiny}", "4:37: unknown key `size`. Allowed: checkpoint."),
        ("encoder: {checkpoint: ./tokenizer.pt}", "holds no encoder; it holds: front_end, tokenizer"),
        ("encoder: {checkpoint: ./small.yaml}", "is not a checkpoint of tensors and plain values"),
        ("encoder: {checkpoint: .}", "is not an artifact"),
    ],
)
def test_an_invalid_checkpoint_is_reported_at_its_location(experiment: Path, line: str, message: str) -> None:
    lines = experiment.read_text().splitlines()
    experiment.write_text("\n".join([*lines[:3], line, *lines[4:]]))
    assert message.replace("`encoder`: `", "") in checked(experiment)


@pytest.mark.parametrize("front_end", ["kaldi_fbank", "{type: kaldi_fbank, mean: 12.5, std: 4.25}"])
def test_another_spectrogram_is_refused_with_the_remedy(experiment: Path, tmp_path: Path, front_end: str) -> None:
    errors = checked(experiment, f"front_end={front_end}")
    assert errors.count(f"set `front_end: {{checkpoint: {tmp_path}/encoder.pt}}`") == 2
    assert errors.count(f"set `front_end: {{checkpoint: {tmp_path}/tokenizer.pt}}`") == 1
    stated = "front_end={type: kaldi_fbank, mean: 15.41663, std: 6.55582}"
    assert check(experiment, [stated], Corpora(Silent()), prepare=False).stages


@pytest.mark.parametrize(
    ("damage", "fault"),
    [(b"", r"is damaged: it has 0 bytes instead of [\d,]+"), (None, "is missing")],
)
def test_damaged_files_of_an_artifact_are_neither_loaded_nor_exported(
    files: dict[str, Path], tmp_path: Path, damage: bytes | None, fault: str
) -> None:
    path = import_file(files["encoder"], tmp_path / "artifact").path / "encoder.safetensors"
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    message = rf"^{path} {fault}; repeat the run, or the import, that made it$"
    with pytest.raises(ArtifactError, match=message):
        ossicle.load(path.parent)
    with pytest.raises(ArtifactError, match=message):
        export(path.parent, tmp_path / "back.pt")
    assert not (tmp_path / "back.pt").exists()


def test_a_flipped_bit_in_an_artifact_is_not_loaded(files: dict[str, Path], tmp_path: Path) -> None:
    path = import_file(files["encoder"], tmp_path / "artifact").path / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"encoder\.safetensors is damaged: its content does not match the digest"):
        ossicle.load(path.parent)


def test_a_damaged_part_is_not_copied_into_another_artifact(experiment: Path, tmp_path: Path) -> None:
    path = import_file(tmp_path / "encoder.pt", tmp_path / "artifact").path / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    overrides = [f"encoder={{checkpoint: {path.parent}}}", "schedule.iterations=[{tokenizer: random_projection}]"]
    with pytest.raises(OssicleError, match=r"encoder\.safetensors is damaged: its content does not match the digest"):
        ossicle.run(experiment, overrides=overrides, out=tmp_path / "runs")
    assert not list((tmp_path / "runs" / ".store").glob("encoder-*"))


def test_the_key_of_a_file_depends_only_on_its_content(files: dict[str, Path], tmp_path: Path) -> None:
    part = CATALOG.get("encoder", "checkpoint")

    def key(path: Path) -> object:
        return PartChoice.of(part, {"path": str(path)}).config.identity()

    shutil.copy(files["encoder"], tmp_path / "elsewhere.pt")
    assert key(tmp_path / "elsewhere.pt") == key(files["encoder"]) != key(files["tokenizer"])
    imported = import_file(files["encoder"], tmp_path / "artifact")
    assert key(imported.path) == {"content": imported.card["key"]}


def test_a_head_with_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    head = made("head", "linear", width=16, classes=3)
    own = artifact(tmp_path / "own", front_end=audioset(), encoder=made("encoder", "beats", SMALL), head=head)
    export(own, tmp_path / "own.pt")
    for path in (own, tmp_path / "own.pt"):
        taken = made("head", "checkpoint", {"path": str(path)}, width=16, classes=3)
        assert torch.equal(taken.state_dict()["linear.weight"], head.state_dict()["linear.weight"])
        with pytest.raises(ArtifactError, match="has 3 classes, but 16 numbers and 4 classes are needed"):
            made("head", "checkpoint", {"path": str(path)}, width=16, classes=4)


def test_editors_know_the_short_form() -> None:
    schema = experiment_schema(CATALOG)
    for kind in ("front_end", "encoder", "tokenizer", "head"):
        allowed = schema["$defs"][kind]["anyOf"]
        assert any(option.get("required") == ["checkpoint"] for option in allowed)
