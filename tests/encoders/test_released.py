"""Reading released checkpoints: what they hold, and the text of each refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ossicle.core.errors import ArtifactError
from ossicle.encoders.beats import Beats
from ossicle.encoders.released import convert_released, read_released
from ossicle.encoders.settings import BeatsConfig

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
        released.build_head()


def test_labels_and_training_options(golden: Path):
    content = torch.load(golden / "finetuned.pt", weights_only=True)
    content["label_dict"] = {0: "/m/09x0r", 1: "/m/04rlf"}
    content["cfg"]["layer_wise_gradient_decay_ratio"] = 0.6
    released = convert_released(content)
    assert released.labels[1] == "/m/04rlf"
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
        (lambda c: c["cfg"].update(activation_fn="mish"), "describes no encoder that we can build: activation"),
        (lambda c: c["cfg"].update(input_patch_size=-1), "`cfg.input_patch_size` must divide 128, but is -1"),
        (lambda c: c["cfg"].update(finetuned_model=True), "`predictor` weights disagree"),
        (lambda c: c["model"].update(mystery=torch.zeros(1)), "unknown weights: `mystery`"),
        (
            lambda c: c["model"].update({TABLE.format(0): torch.zeros(4, 2), TABLE.format(1): torch.ones(4, 2)}),
            "the layers share one table",
        ),
    ],
)
def test_what_we_do_not_know_is_refused(change: Callable[[dict[str, Any]], object], message: str):
    content = {"cfg": dict(CFG), "model": {}}
    assert convert_released(content).config.shape.layers == 2
    change(content)
    with pytest.raises(ArtifactError, match=message):
        convert_released(content)


def test_missing_weights_are_refused():
    with pytest.raises(ArtifactError, match="the weights do not fit `cfg`"):
        convert_released({"cfg": CFG, "model": {}}).build_encoder()


def test_files_that_are_no_checkpoints(tmp_path: Path):
    with pytest.raises(ArtifactError, match="does not exist"):
        read_released(tmp_path / "none.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="not a checkpoint of tensors and plain values"):
        read_released(tmp_path / "junk.pt")
    torch.save({"cfg": {}, "model": {}, "code": Path("x")}, tmp_path / "objects.pt")
    with pytest.raises(ArtifactError, match="not a checkpoint of tensors and plain values"):
        read_released(tmp_path / "objects.pt")


def test_the_released_size():
    encoder = Beats(BeatsConfig(size="base"), patch_dim=256, bands=8)
    assert sum(p.numel() for p in encoder.parameters()) == 90_311_792
