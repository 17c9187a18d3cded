"""Reading released checkpoints: their content, and the text of each error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ossicle.checkpoints.contents import encoder_of, head_of
from ossicle.checkpoints.microsoft import convert_released, read_released
from ossicle.checkpoints.names import weight_names
from ossicle.core.errors import ArtifactError
from ossicle.core.plugin_loading import load_plugins
from ossicle.encoders.beats import Beats
from ossicle.encoders.encoder_config import BeatsConfig

CATALOG = load_plugins().catalog

CFG: dict[str, Any] = {
    "input_patch_size": 16,
    "embed_dim": 8,
    "conv_bias": False,
    "encoder_layers": 2,
    "encoder_embed_dim": 8,
    "encoder_ffn_embed_dim": 16,
    "encoder_attention_heads": 2,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": True,
    "conv_pos": 4,
    "conv_pos_groups": 2,
    "relative_position_embedding": True,
    "num_buckets": 320,
    "max_distance": 800,
    "gru_rel_pos": True,
}
TABLE = "encoder.layers.{}.self_attn.relative_attention_bias.weight"


def test_a_tokenizer_keeps_its_quantiser(golden: Path):
    released = read_released(golden / "tokenizer.pt")
    assert released.kind == "tokenizer"
    assert "quantize.embedding.weight" in released.quantiser
    assert released.front_end.mean == 15.41663
    with pytest.raises(ArtifactError, match="it was not fine-tuned"):
        head_of(released, CATALOG)
    with pytest.raises(ArtifactError, match="this checkpoint is a tokenizer"):
        encoder_of(released, CATALOG)


def test_labels_and_training_options(golden: Path):
    content = torch.load(golden / "finetuned.pt", weights_only=True)
    content["label_dict"] = {number: f"/m/0{number}" for number in reversed(range(5))}
    content["cfg"]["layer_wise_gradient_decay_ratio"] = 0.6
    released = convert_released(content)
    assert released.labels == ("/m/00", "/m/01", "/m/02", "/m/03", "/m/04")
    assert released.config.gradient_decay == 0.6
    assert (released.config.dropout, released.config.layer_drop) == (0.0, 0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("model"), "has the keys `cfg` and `model`"),
        (lambda c: c.update(optimizer={}), "unknown top-level keys: `optimizer`"),
        (lambda c: c["cfg"].pop("max_distance"), "`cfg` lacks `max_distance`"),
        (lambda c: c["cfg"].update(use_flash=True), "unknown settings in `cfg`: `use_flash`"),
        (lambda c: c["cfg"].update(layer_norm_first=True), "set `deep_norm: false`"),
        (lambda c: c["cfg"].update(activation_fn="mish"), "describes an encoder that we cannot build: activation"),
        (lambda c: c["cfg"].update(input_patch_size=-1), "`cfg.input_patch_size` must divide 128, but is -1"),
        (lambda c: c["cfg"].update(finetuned_model=True), "`predictor` weights disagree"),
        (lambda c: c["model"].update(mystery=torch.zeros(1)), "unknown weights: `mystery`"),
        (lambda c: c.update(cfg=[]), "`cfg` must be a mapping"),
        (lambda c: c.update(model=7), "`model` a mapping from names to tensors"),
        (lambda c: c["model"].update({"layer_norm.weight": "much"}), "`model` a mapping from names to tensors"),
        (lambda c: c["model"].update({"predictor.0.weight": torch.ones(1)}), "the `predictor` must be a linear layer"),
        (lambda c: c.update(label_dict={"dog": 0}), "must name each of the 0 classes"),
        (lambda c: c.update(label_dict={0: "dog"}), "must name each of the 0 classes"),
        (lambda c: c["cfg"].update(fbank_std=-1.0), "describes a front end that we cannot build: std"),
        (
            lambda c: c["model"].update({TABLE.format(0): torch.zeros(4, 2), TABLE.format(1): torch.ones(4, 2)}),
            "the layers must share one table",
        ),
    ],
)
def test_unknown_or_invalid_content_is_refused(change: Callable[[dict[str, Any]], object], message: str):
    content = {"cfg": dict(CFG), "model": {}}
    assert convert_released(content).config.shape.layers == 2
    change(content)
    with pytest.raises(ArtifactError, match=message):
        convert_released(content)


def test_missing_weights_are_refused():
    with pytest.raises(ArtifactError, match="the weights do not fit `cfg`"):
        encoder_of(convert_released({"cfg": CFG, "model": {}}), CATALOG)


def test_files_that_are_not_checkpoints(tmp_path: Path):
    with pytest.raises(ArtifactError, match="does not exist"):
        read_released(tmp_path / "none.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="not a checkpoint of tensors and plain values"):
        read_released(tmp_path / "junk.pt")
    torch.save({"cfg": {}, "model": {}, "code": Path("x")}, tmp_path / "objects.pt")
    with pytest.raises(ArtifactError, match=r"it contains `pathlib\.PosixPath`, which is never loaded"):
        read_released(tmp_path / "objects.pt")


@pytest.mark.slow
def test_the_released_size():
    encoder = Beats(BeatsConfig(size="base"), patch_dim=256, bands=8)
    assert sum(p.numel() for p in encoder.parameters()) == 90_311_792


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "glu", "patch_width": 8},
        {"patch_bias": True, "norm": "pre", "deep_norm": False, "gated": False},
        {"relative_bias": False, "gated": False},
    ],
)
def test_every_weight_has_one_released_name(options: dict[str, Any]) -> None:
    shape = {"layers": 2, "width": 8, "heads": 2, "feed_forward": 16, "patch_width": 4, "conv_position_groups": 2}
    config = BeatsConfig(**(shape | options))
    ours = weight_names(config).values()
    assert set(ours) == set(Beats(config, patch_dim=256, bands=8).state_dict())
    assert len(ours) - len(set(ours)) == (1 if config.relative_bias else 0), "only the table is stored per layer"


def test_statistics_of_another_corpus() -> None:
    released = convert_released({"cfg": {**CFG, "fbank_mean": 14.0, "fbank_std": 5.5}, "model": {}})
    assert (released.front_end.mean, released.front_end.std) == (14.0, 5.5)
