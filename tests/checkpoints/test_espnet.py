"""Small files in ESPnet's layouts with random weights.

The expected numbers were computed with the encoder in the package `openbeats` 0.1.1 on these weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import ossicle
from ossicle.checkpoints.microsoft import convert_released, read_released
from ossicle.core.errors import ArtifactError

RATE = 16000
SETTINGS: dict[str, Any] = {
    "encoder_layers": 2,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "embed_dim": 8,
    "conv_pos": 8,
    "conv_pos_groups": 2,
    "deep_norm": True,
    "relative_position_embedding": True,
    "num_buckets": 32,
    "max_distance": 80,
    "gru_rel_pos": True,
    "decoder_layers": 1,
    "codebook_vocab_size": 12,
    "mask_ratio": 0.75,
    "use_flash_attn": False,
}
LAYER: dict[str, tuple[int, ...]] = {
    "self_attn.grep_a": (1, 2, 1, 1),
    "self_attn.grep_linear.bias": (8,),
    "self_attn.grep_linear.weight": (8, 8),
    "self_attn.relative_attention_bias.weight": (32, 2),
    **{f"self_attn.{name}_proj.bias": (16,) for name in ("q", "k", "v", "out")},
    **{f"self_attn.{name}_proj.weight": (16, 16) for name in ("q", "k", "v", "out")},
    "self_attn_layer_norm.bias": (16,),
    "self_attn_layer_norm.weight": (16,),
    "fc1.bias": (32,),
    "fc1.weight": (32, 16),
    "fc2.bias": (16,),
    "fc2.weight": (16, 32),
    "final_layer_norm.bias": (16,),
    "final_layer_norm.weight": (16,),
}
ENCODER: dict[str, tuple[int, ...]] = {
    "patch_embedding.weight": (8, 1, 16, 16),
    "patch_embedding_pad.weight": (1, 1, 16, 16),
    "raw2fbank_pad.weight": (1, 1, 400),
    "layer_norm.bias": (8,),
    "layer_norm.weight": (8,),
    "post_extract_proj.bias": (16,),
    "post_extract_proj.weight": (16, 8),
    "encoder.pos_conv.0.bias": (16,),
    "encoder.pos_conv.0.weight_g": (1, 1, 8),
    "encoder.pos_conv.0.weight_v": (16, 8, 8),
    "encoder.layer_norm.bias": (16,),
    "encoder.layer_norm.weight": (16,),
    **{f"encoder.layers.{layer}.{name}": shape for layer in range(2) for name, shape in LAYER.items()},
}
QUANTISER: dict[str, tuple[int, ...]] = {
    "quantize.cluster_size": (64,),
    "quantize.embedding.cluster_size": (64,),
    "quantize.embedding.embed_avg": (64, 8),
    "quantize.embedding.initted": (1,),
    "quantize.embedding.weight": (64, 8),
    "quantize_layer.0.bias": (16,),
    "quantize_layer.0.weight": (16, 16),
    "quantize_layer.2.bias": (8,),
    "quantize_layer.2.weight": (8, 16),
}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Draw random weights that depend only on their names. The layers share one table."""
    made = {}
    for name, shape in shapes.items():
        drawn = name.replace("layers.1.self_attn.relative", "layers.0.self_attn.relative")
        z = np.random.RandomState(sum(drawn.encode())).standard_normal(shape)
        if name.endswith(("_pad.weight", "initted")):
            z = np.ones(shape)
        elif "layer_norm.weight" in name or name.endswith("grep_a"):
            z = 1 + 0.3 * z
        elif name.startswith("quantize.embedding"):
            z /= np.linalg.norm(z, axis=-1, keepdims=True)
        elif name.endswith(("weight_g", "cluster_size")):
            z = abs(1 + 0.3 * z)
        else:
            z *= 0.1 if name.endswith("bias") else 0.7
        made[name] = torch.from_numpy(z.astype(np.float32))
    return made


def clips() -> tuple[np.ndarray[Any, Any], list[int]]:
    time = np.arange(9000) / RATE
    waves = np.stack([0.3 * np.sin(2 * np.pi * 440 * time), 0.2 * np.sin(2 * np.pi * 1000 * time**1.5)])
    rng = np.random.RandomState(0)
    waves *= rng.uniform(0, 1, (2, 9, 1)).repeat(1000, axis=2).reshape(2, 9000)
    waves += 0.002 * rng.standard_normal(waves.shape)  # without noise, empty bands would contain only rounding errors
    waves[1, 6000:] = 0
    return waves.astype(np.float32), [9000, 6000]


def below_encoder(content: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"encoder.{name}": value for name, value in content.items()}


def save(folder: Path, content: object, training: dict[str, Any] | None = None) -> Path:
    torch.save(content, folder / "model.pth")
    if training is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(training))
    return folder / "model.pth"


CLIP_MEANS = np.array(
    [
        [-0.1826, -0.1454, 0.9132, -0.3385, -0.2513, -0.2658, -0.9628, 0.4324],
        [-1.1358, -2.2617, -0.4178, -0.0534, -0.1057, 1.5722, 0.0304, 1.1781],
        [-0.2363, -0.1342, 0.4126, -0.2556, -0.6267, 0.3834, -0.5212, 0.7488],
        [-1.5623, -1.512, -0.4351, -0.872, -0.1949, 1.5993, 0.1233, 1.3119],
    ],
    dtype=np.float32,
).reshape(2, 16)
OTHER_STATISTICS = [0.0583, -0.173, 0.8564, -0.3432]
"""The first numbers of the mean of the first clip with the statistics 12.5 and 4.25."""
TOKENS = [
    [23, 9, 23, 23, 23, 23, 23, 9, 23, 9, 23, 23, 9, 23, 9, 9, 23, 9, 9, 23, 23, 23, 23, 9],
    [9, 23, 23, 23, 9, 23, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
]


def test_an_encoder_gives_the_output_of_openbeats(tmp_path: Path) -> None:
    waves, lengths = clips()
    part = ossicle.load(save(tmp_path, {"cfg": SETTINGS, "model": weights(ENCODER)}))
    found = part.embed(waves, sample_rate=RATE, lengths=lengths)
    assert found.valid.sum(1).tolist() == [24, 16]
    torch.testing.assert_close(found.clip, torch.from_numpy(CLIP_MEANS), atol=2e-4, rtol=0)


@pytest.mark.parametrize("wrap", [dict, lambda weights: {"module": weights}], ids=["plain", "deepspeed"])
def test_an_encoder_from_the_weights_of_a_whole_training(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], object]
) -> None:
    content = {**below_encoder(weights(ENCODER)), "decoder.mask_token": torch.zeros(1, 1, 4)}
    statistics = {"fbank_mean": 12.5, "fbank_std": 4.25}
    path = save(tmp_path, wrap(content), {"encoder": "beats", "encoder_conf": {"beats_config": SETTINGS, **statistics}})
    waves, _ = clips()
    found = ossicle.load(path).embed(waves[0], sample_rate=RATE)
    torch.testing.assert_close(found.clip[0, :4], torch.tensor(OTHER_STATISTICS), atol=2e-4, rtol=0)
    assert not read_released(path).notes


def test_statistics_in_the_file_are_used_and_missing_ones_are_noted(tmp_path: Path) -> None:
    content = {"cfg": {**SETTINGS, "fbank_mean": 12.5, "fbank_std": 4.25}, "model": weights(ENCODER)}
    waves, _ = clips()
    found = ossicle.load(save(tmp_path, content)).embed(waves[0], sample_rate=RATE)
    torch.testing.assert_close(found.clip[0, :4], torch.tensor(OTHER_STATISTICS), atol=2e-4, rtol=0)
    without = convert_released({"cfg": SETTINGS, "model": weights(ENCODER)})
    assert without.front_end.mean == 15.41663
    assert "does not state the filter-bank statistics" in without.notes[0]


@pytest.mark.parametrize("whole", [False, True])
def test_a_tokenizer(tmp_path: Path, whole: bool) -> None:
    cfg = {**SETTINGS, "quant_n": 64, "quant_dim": 8, "embed_loss_beta": 1.0, "seed": 0}
    model = weights({**ENCODER, **QUANTISER})
    if whole:
        others = {"teacher.patch_embedding.weight": torch.zeros(1), "decoder.connector_layer.weight": torch.zeros(1)}
        path = save(tmp_path, below_encoder(model) | others, {"encoder_conf": {"tokenizer_config": cfg}})
    else:
        path = save(tmp_path, {"cfg": cfg, "model": model})
    waves, lengths = clips()
    found = ossicle.load(path).tokenize(waves, sample_rate=RATE, lengths=lengths)
    assert found.codebook_size == 64
    assert [ids[valid].tolist() for ids, valid in zip(found.ids, found.valid, strict=True)] == TOKENS


@pytest.mark.parametrize("kind", ["multi-class", "multi-label"])
def test_a_classifier(tmp_path: Path, kind: str) -> None:
    rng = np.random.RandomState(0)
    weight, bias = rng.standard_normal((3, 16)), rng.standard_normal(3)
    head = {
        "decoder.linear_out.weight": torch.tensor(weight).float(),
        "decoder.linear_out.bias": torch.tensor(bias).float(),
    }
    training = {
        "encoder_conf": {"beats_config": SETTINGS},
        "model_conf": {"classification_type": kind},
        "token_list": ["dog", "rain", "car", "<unk>"],
    }
    part = ossicle.load(save(tmp_path, below_encoder(weights(ENCODER)) | head, training))
    waves, lengths = clips()
    found = part.classify(waves, sample_rate=RATE, lengths=lengths)
    logits = CLIP_MEANS @ weight.T + bias
    expected = 1 / (1 + np.exp(-logits))
    if kind == "multi-class":
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found.labels == ("dog", "rain", "car")
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-3)


def test_a_fine_tuned_encoder_is_built_like_the_file_it_started_from(tmp_path: Path) -> None:
    content = below_encoder(weights(ENCODER))
    conf = {"beats_ckpt_path": "/exp/base.pt", "beats_config": {"dropout": 0.0, "encoder_layerdrop": 0.1}}
    path = save(tmp_path, content, {"encoder_conf": conf})
    with pytest.raises(ArtifactError, match=r"built like /exp/base\.pt: put that file beside it, as base\.pt"):
        read_released(path)
    torch.save({"cfg": SETTINGS, "model": {}}, tmp_path / "base.pt")
    released = read_released(path)
    assert (released.config.dropout, released.config.layer_drop, released.config.deep_norm) == (0.0, 0.1, True)
    waves, lengths = clips()
    found = ossicle.load(path).embed(waves, sample_rate=RATE, lengths=lengths)
    torch.testing.assert_close(found.clip, torch.from_numpy(CLIP_MEANS), atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (None, "holds only weights: put the config.yaml of its training beside it"),
        ({"encoder_conf": {"beats_config": SETTINGS, "max_layer": 0}}, "sets `max_layer`, which changes the encoder"),
        ({"encoder_conf": {"beats_config": SETTINGS, "downsampling_rate": 2}}, "sets `downsampling_rate`"),
        ({"encoder_conf": {"beats_config": {**SETTINGS, "rotary": True}}}, "unknown settings in `cfg`: `rotary`"),
        ({"encoder_conf": {"beats_config": {**SETTINGS, "encoder_layers": 1}}}, "unknown weights: `encoder.layers.1."),
    ],
)
def test_incomplete_or_unknown_settings_are_refused(
    tmp_path: Path, training: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(ArtifactError, match=message.replace(".", r"\.")):
        read_released(save(tmp_path, below_encoder(weights(ENCODER)), training))


def test_further_modules_are_refused(tmp_path: Path) -> None:
    content = below_encoder(weights(ENCODER)) | {"encoder.layer_weights": torch.ones(2, 1), "frontend.w": torch.ones(1)}
    with pytest.raises(ArtifactError, match=r"unknown weights: `frontend\.w`, `layer_weights`"):
        read_released(save(tmp_path, content, {"encoder_conf": {"beats_config": SETTINGS}}))


def test_a_classifier_with_another_pooling_is_left_out(tmp_path: Path) -> None:
    head = {"decoder.linear_out.weight": torch.zeros(3, 16), "decoder.linear_out.bias": torch.zeros(3)}
    training = {"encoder_conf": {"beats_config": SETTINGS}, "decoder_conf": {"pooling": "max"}}
    released = read_released(save(tmp_path, below_encoder(weights(ENCODER)) | head, training))
    assert released.kind == "encoder"
    assert "pools by `max`" in released.notes[0]


def test_a_codebook_that_was_never_trained_is_refused(tmp_path: Path) -> None:
    model = weights({**ENCODER, **QUANTISER}) | {"quantize.embedding.weight": torch.zeros(64, 8)}
    path = save(tmp_path, {"cfg": SETTINGS, "model": model})
    with pytest.raises(ArtifactError, match="its codebook has never been trained"):
        ossicle.load(path)
