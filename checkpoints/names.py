"""The names of weights and settings in the released BEATs code, and ours.

Notable choices:

- The table of weights is made for one architecture and pairs the names one to one, so it serves reading and writing.
- The exception is the relative bias, which the released code stores once per layer and we store once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from torch import Tensor

from ..encoders.encoder_config import BeatsConfig

SETTINGS: Final[Mapping[str, str]] = {
    "embed_dim": "patch_width",
    "conv_bias": "patch_bias",
    "encoder_layers": "layers",
    "encoder_embed_dim": "width",
    "encoder_ffn_embed_dim": "feed_forward",
    "encoder_attention_heads": "heads",
    "activation_fn": "activation",
    "deep_norm": "deep_norm",
    "conv_pos": "conv_position_kernel",
    "conv_pos_groups": "conv_position_groups",
    "relative_position_embedding": "relative_bias",
    "num_buckets": "buckets",
    "max_distance": "max_distance",
    "gru_rel_pos": "gated",
}
"""The released settings that determine what an encoder computes, to the fields of `BeatsConfig`."""

TRAINING_SETTINGS: Final[Mapping[str, str]] = {
    "layer_wise_gradient_decay_ratio": "gradient_decay",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "encoder_layerdrop": "layer_drop",
    "dropout_input": "input_dropout",
}
"""The released settings that affect only training, to the fields of `BeatsConfig`."""

TABLE: Final = "stack.bias.table"

_LAYER: Final = (
    ("self_attn.q_proj", "attention.query"),
    ("self_attn.k_proj", "attention.key"),
    ("self_attn.v_proj", "attention.value"),
    ("self_attn.out_proj", "attention.out"),
    ("self_attn_layer_norm", "attention_norm"),
    ("fc2", "feed_forward.contract"),
    ("final_layer_norm", "feed_forward_norm"),
)


def weight_names(config: BeatsConfig) -> dict[str, str]:
    """Map the released name of every weight of an encoder to the name in `Beats.state_dict()`."""
    shape = config.shape
    pairs = {
        **_with_bias("layer_norm", "stem.norm"),
        "patch_embedding.weight": "stem.embed.weight",
        "encoder.pos_conv.0.bias": "conv_position.bias",
        "encoder.pos_conv.0.weight_g": "conv_position.gain",
        "encoder.pos_conv.0.weight_v": "conv_position.direction",
        **_with_bias("encoder.layer_norm", "stack.norm"),
    }
    if config.patch_bias:
        pairs["patch_embedding.bias"] = "stem.embed.bias"
    if shape.patch_width != shape.width:
        pairs |= _with_bias("post_extract_proj", "stem.project")
    for layer in range(shape.layers):
        pairs |= dict(_layer_names(config, f"encoder.layers.{layer}", f"stack.layers.{layer}"))
    return pairs


def _layer_names(config: BeatsConfig, theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for one, other in _LAYER:
        yield from _with_bias(f"{theirs}.{one}", f"{ours}.{other}").items()
    first = f"{theirs}.fc1.linear" if config.activation == "glu" else f"{theirs}.fc1"
    yield from _with_bias(first, f"{ours}.feed_forward.expand").items()
    if config.relative_bias:
        yield f"{theirs}.self_attn.relative_attention_bias.weight", TABLE
    if config.gated:
        yield from _with_bias(f"{theirs}.self_attn.grep_linear", f"{ours}.attention.gate.project").items()
        yield f"{theirs}.self_attn.grep_a", f"{ours}.attention.gate.scale"


def _with_bias(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{name}": f"{ours}.{name}" for name in ("weight", "bias")}


def to_ours(name: str, value: Tensor) -> Tensor:
    """Reshape a released weight for our weight of this name."""
    if name == "stem.embed.weight":
        return value.flatten(1)  # (C, 1, p, q) -> (C, p q)
    if name.endswith("gate.scale"):
        return value.flatten()  # (1, H, 1, 1) -> (H,)
    return value


def to_theirs(name: str, value: Tensor, *, patch_size: int) -> Tensor:
    """Reshape our weight of this name for the released code, whose patches are squares of `patch_size`."""
    if name == "stem.embed.weight":
        return value.reshape(-1, 1, patch_size, patch_size)  # (C, p q) -> (C, 1, p, q)
    if name.endswith("gate.scale"):
        return value[None, :, None, None]  # (H,) -> (1, H, 1, 1)
    return value
