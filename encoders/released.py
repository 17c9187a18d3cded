"""Read the checkpoints that Microsoft released with BEATs.

Such a file is `{"cfg": dict, "model": state dict}`, and has `label_dict` when fine-tuned. Notable choices: nothing in
it is unpickled but tensors and plain values; what we do not know is refused, for a setting left aside would give other
numbers without a word; weights of a tokenizer's quantiser are handed on as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from ..audio.front_end_settings import AUDIOSET_MEAN, AUDIOSET_STD, KaldiFbankConfig
from ..core.errors import ArtifactError
from .beats import Beats
from .head import LinearHead
from .settings import BeatsConfig, LinearHeadConfig

_OPTIONS: Final[Mapping[str, str]] = {
    "encoder_layers": "layers",
    "encoder_embed_dim": "width",
    "encoder_ffn_embed_dim": "feed_forward",
    "encoder_attention_heads": "heads",
    "embed_dim": "patch_width",
    "conv_bias": "patch_bias",
    "activation_fn": "activation",
    "deep_norm": "deep_norm",
    "conv_pos": "conv_position_kernel",
    "conv_pos_groups": "conv_position_groups",
    "relative_position_embedding": "relative_bias",
    "gru_rel_pos": "gated",
    "num_buckets": "buckets",
    "max_distance": "max_distance",
}
_TRAINING_OPTIONS: Final[Mapping[str, str]] = {
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "dropout_input": "input_dropout",
    "encoder_layerdrop": "layer_drop",
    "layer_wise_gradient_decay_ratio": "gradient_decay",
}
_STRUCTURAL: Final = frozenset(_OPTIONS) | {"input_patch_size", "layer_norm_first"}
_HEAD: Final = frozenset({"finetuned_model", "predictor_class", "predictor_dropout"})
_QUANTISER: Final = frozenset({"quant_n", "quant_dim"})
_MEL_BINS: Final = 128

_NAMES: Final = (
    (r"patch_embedding\.(weight|bias)", r"stem.embed.\1"),
    (r"layer_norm\.(weight|bias)", r"stem.norm.\1"),
    (r"post_extract_proj\.(weight|bias)", r"stem.project.\1"),
    (r"encoder\.pos_conv\.0\.weight_g", r"conv_position.gain"),
    (r"encoder\.pos_conv\.0\.weight_v", r"conv_position.direction"),
    (r"encoder\.pos_conv\.0\.bias", r"conv_position.bias"),
    (r"encoder\.layer_norm\.(weight|bias)", r"stack.norm.\1"),
    (r"encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight", r"stack.bias.table"),
    (r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", r"stack.layers.\1.attention.query.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.k_proj\.(weight|bias)", r"stack.layers.\1.attention.key.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.v_proj\.(weight|bias)", r"stack.layers.\1.attention.value.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.(weight|bias)", r"stack.layers.\1.attention.out.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.grep_linear\.(weight|bias)", r"stack.layers.\1.attention.gate.project.\2"),
    (r"encoder\.layers\.(\d+)\.self_attn\.grep_a", r"stack.layers.\1.attention.gate.scale"),
    (r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.(weight|bias)", r"stack.layers.\1.attention_norm.\2"),
    (r"encoder\.layers\.(\d+)\.fc1\.(?:linear\.)?(weight|bias)", r"stack.layers.\1.feed_forward.expand.\2"),
    (r"encoder\.layers\.(\d+)\.fc2\.(weight|bias)", r"stack.layers.\1.feed_forward.contract.\2"),
    (r"encoder\.layers\.(\d+)\.final_layer_norm\.(weight|bias)", r"stack.layers.\1.feed_forward_norm.\2"),
)


@dataclass(frozen=True)
class Released:
    """What a released checkpoint holds, under our names.

    Attributes:
        kind: what the file is
        config: the encoder's configuration
        front_end: the front end that it was trained with; its `padding` is `exact`, unlike the released code's
        encoder: state dict of `Beats`
        head: state dict of `LinearHead`, for a fine-tuned encoder
        head_dropout: that head's dropout
        labels: output number to label, when the file says so
        quantiser: weights and settings of a tokenizer beyond its encoder, under their own names
    """

    kind: Literal["encoder", "fine_tuned", "tokenizer"]
    config: BeatsConfig
    front_end: KaldiFbankConfig
    encoder: Mapping[str, Tensor]
    head: Mapping[str, Tensor] = field(default_factory=dict)
    head_dropout: float = 0.0
    labels: Mapping[int, str] = field(default_factory=dict)
    quantiser: Mapping[str, Tensor] = field(default_factory=dict)

    def build_encoder(self) -> Beats:
        """Build the encoder with these weights, in evaluation mode.

        Raises:
            ArtifactError: if weights are missing, left over or of another shape than the configuration says
        """
        encoder = Beats(self.config, self.front_end.patch_dim, self.front_end.bands)
        _load(encoder, self.encoder)
        return encoder.eval()

    def build_head(self) -> LinearHead:
        """Build the head of a fine-tuned encoder with these weights, in evaluation mode.

        Raises:
            ArtifactError: if the encoder was not fine-tuned, or the weights do not fit
        """
        if "linear.weight" not in self.head:
            raise ArtifactError("this checkpoint has no classifier: it was not fine-tuned")
        classes = self.head["linear.weight"].shape[0]
        head = LinearHead(LinearHeadConfig(dropout=self.head_dropout), self.config.shape.width, classes)
        _load(head, self.head)
        return head.eval()


def read_released(path: Path) -> Released:
    """Read a released checkpoint.

    Raises:
        ArtifactError: if the file cannot be read, or holds something that we do not know
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtifactError(f"`{path}` does not exist") from None
    except Exception as error:  # torch.load raises whatever the damaged bytes lead it to
        raise ArtifactError(f"`{path}` is not a checkpoint of tensors and plain values: {error}") from error
    try:
        return convert_released(content)
    except ArtifactError as error:
        raise ArtifactError(f"`{path}`: {error}") from error


def convert_released(content: Any) -> Released:
    """Convert the loaded content of a released checkpoint.

    Raises:
        ArtifactError: if it holds something that we do not know, or lacks something that we need
    """
    if not isinstance(content, dict) or not {"cfg", "model"} <= content.keys():
        raise ArtifactError("a released BEATs checkpoint has the keys `cfg` and `model`, and this file does not")
    _refuse("top-level keys", content.keys() - {"cfg", "model", "label_dict"})
    cfg, model = content["cfg"], content["model"]
    quantiser = {name: value for name, value in model.items() if name.startswith("quantize")}
    head = {f"linear.{name.removeprefix('predictor.')}": model[name] for name in model if name.startswith("predictor.")}
    if bool(cfg.get("finetuned_model", False)) != bool(head):
        raise ArtifactError("`cfg.finetuned_model` and the presence of `predictor` weights disagree")
    others = {name: value for name, value in model.items() if not name.startswith(("quantize", "predictor."))}
    return Released(
        kind="tokenizer" if quantiser else "fine_tuned" if head else "encoder",
        config=_config(cfg),
        front_end=_front_end(cfg),
        encoder=_rename(others),
        head=head,
        head_dropout=float(cfg.get("predictor_dropout", 0.0)),
        labels={int(number): str(label) for number, label in content.get("label_dict", {}).items()},
        quantiser=quantiser,
    )


def our_name(theirs: str) -> str | None:
    """Translate the name of a weight in a released checkpoint; None when we know no such weight."""
    for pattern, ours in _NAMES:
        match = re.fullmatch(pattern, theirs)
        if match:
            return match.expand(ours)
    return None


def _config(cfg: Mapping[str, Any]) -> BeatsConfig:
    missing = sorted(_STRUCTURAL - cfg.keys())
    if missing:
        # The released class would fill these with defaults that fit none of the released weights.
        raise ArtifactError(f"`cfg` lacks {_listed(missing)}")
    _refuse("settings in `cfg`", cfg.keys() - _STRUCTURAL - _TRAINING_OPTIONS.keys() - _HEAD - _QUANTISER)
    options = {ours: cfg[theirs] for theirs, ours in {**_OPTIONS, **_TRAINING_OPTIONS}.items() if theirs in cfg}
    options["norm"] = "pre" if cfg["layer_norm_first"] else "post"
    options["gated"] = options["gated"] and options["relative_bias"]
    if options["activation"] == "gelu_fast":
        options["activation"] = "gelu_accurate"
    try:
        return BeatsConfig(**options)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, item['loc']))} {item['msg']}".strip() for item in error.errors())
        raise ArtifactError(f"`cfg` describes no encoder that we can build: {reasons}") from error


def _front_end(cfg: Mapping[str, Any]) -> KaldiFbankConfig:
    size = cfg["input_patch_size"]
    if not isinstance(size, int) or size < 1 or _MEL_BINS % size:
        raise ArtifactError(f"`cfg.input_patch_size` must divide {_MEL_BINS}, but is {size!r}")
    return KaldiFbankConfig(
        mel_bins=_MEL_BINS, patch_frames=size, patch_bins=size, mean=AUDIOSET_MEAN, std=AUDIOSET_STD
    )


def _rename(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    unknown = []
    for theirs, value in model.items():
        ours = our_name(theirs)
        if ours is None:
            unknown.append(theirs)
        elif ours == "stack.bias.table" and ours in renamed:
            if not torch.equal(renamed[ours], value):
                raise ArtifactError(f"`{theirs}` differs from layer 0's, but the layers share one table")
        else:
            renamed[ours] = _reshape(ours, value)
    _refuse("weights", unknown)
    return renamed


def _reshape(name: str, value: Tensor) -> Tensor:
    if name == "stem.embed.weight":
        return value.flatten(1)  # (C, 1, p, q) -> (C, p q)
    if name.endswith("gate.scale"):
        return value.flatten()  # (1, H, 1, 1) -> (H,)
    return value


def _load(module: torch.nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ArtifactError(f"the weights do not fit `cfg`: {error}") from error


def _refuse(what: str, unknown: Any) -> None:
    if unknown:
        raise ArtifactError(f"unknown {what}: {_listed(sorted(unknown))}")


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
