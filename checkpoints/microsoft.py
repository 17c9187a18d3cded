"""Read the checkpoints that were released with BEATs, and those of ESPnet's version of it.

Microsoft's files are `{"cfg": dict, "model": state dict}`, with `label_dict` when fine-tuned. `espnet.py` converts
ESPnet's files to that form.

Notable choices:

- Only tensors and plain values of a file are unpickled.
- Unknown settings and weights are refused, because ignoring one would silently give different numbers.
- `fbank_mean` and `fbank_std` in `cfg` are the statistics of another corpus than AudioSet. OpenBEATs reads them there,
  and we write them there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from ..audio.front_end_config import AUDIOSET_MEAN, AUDIOSET_STD, KaldiFbankConfig
from ..core.errors import ArtifactError
from ..encoders.encoder_config import BeatsConfig
from .espnet import is_espnet, is_state, translate
from .names import SETTINGS, TABLE, TRAINING_SETTINGS, to_ours, weight_names
from .torch_files import read_torch_file

PATCH_SIZE: Final = "input_patch_size"
NORM_FIRST: Final = "layer_norm_first"
STATISTICS: Final = ("fbank_mean", "fbank_std")
QUANTISER: Final = ("quant_n", "quant_dim")
HEAD: Final = ("finetuned_model", "predictor_class", "predictor_dropout")
MEL_BINS: Final = 128

_STRUCTURAL: Final = frozenset({*SETTINGS, PATCH_SIZE, NORM_FIRST})
_KNOWN: Final = _STRUCTURAL | {*TRAINING_SETTINGS, *HEAD, *QUANTISER, *STATISTICS}

Kind = Literal["encoder", "fine_tuned", "tokenizer"]


@dataclass(frozen=True)
class Released:
    """The content of a released checkpoint under our names.

    Attributes:
        kind: what the file contains
        layout: whose code wrote it
        config: the encoder's configuration
        front_end: the front end that it was trained with; its `padding` is `exact`, unlike that of the released code
        encoder: state dict of `Beats`
        head: state dict of `LinearHead`, for a fine-tuned encoder
        head_dropout: dropout probability of the head
        labels: the names of the classes in the order of the head's outputs, if the file states them
        multi_label: whether a clip can have several classes, so that each has an independent probability
        quantiser: weights of a tokenizer beyond its encoder, under their released names
        notes: assumptions that were made, for people
    """

    kind: Kind
    config: BeatsConfig
    front_end: KaldiFbankConfig
    encoder: Mapping[str, Tensor]
    layout: Literal["microsoft", "espnet"] = "microsoft"
    head: Mapping[str, Tensor] = field(default_factory=dict)
    head_dropout: float = 0.0
    labels: Sequence[str] = ()
    multi_label: bool = True
    quantiser: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Sequence[str] = ()


def read_released(path: Path) -> Released:
    """Read a released checkpoint.

    Raises:
        ArtifactError: if the file cannot be read, or contains unknown settings or weights
    """
    content = read_torch_file(path)
    try:
        return convert_released(content, folder=path.parent)
    except ArtifactError as error:
        raise ArtifactError(f"`{path}`: {error}") from error


def convert_released(content: Any, *, folder: Path | None = None) -> Released:
    """Convert the loaded content of a released checkpoint.

    Args:
        folder: the folder of ESPnet's `config.yaml`, if there is one

    Raises:
        ArtifactError: if it contains unknown settings or weights, or lacks something that we need
    """
    if is_espnet(content):
        translated = translate(content, folder)
        return _converted(
            translated.content, layout="espnet", multi_label=translated.multi_label, notes=translated.notes
        )
    if not isinstance(content, dict) or not {"cfg", "model"} <= content.keys():
        raise ArtifactError("a released BEATs checkpoint has the keys `cfg` and `model`, but this file does not")
    return _converted(content, layout="microsoft")


def _converted(
    content: Mapping[str, Any],
    *,
    layout: Literal["microsoft", "espnet"],
    multi_label: bool = True,
    notes: Sequence[str] = (),
) -> Released:
    _refuse("top-level keys", content.keys() - {"cfg", "model", "label_dict"})
    cfg, model = content["cfg"], content["model"]
    if not isinstance(cfg, Mapping) or not is_state(model):
        raise ArtifactError("`cfg` must be a mapping, and `model` a mapping from names to tensors")
    quantiser = {name: value for name, value in model.items() if name.startswith("quantize")}
    head = {f"linear.{name.removeprefix('predictor.')}": model[name] for name in model if name.startswith("predictor.")}
    if head and head.keys() != {"linear.weight", "linear.bias"}:
        raise ArtifactError("the `predictor` must be a linear layer with a weight and a bias")
    if bool(cfg.get("finetuned_model", False)) != bool(head):
        raise ArtifactError("`cfg.finetuned_model` and the presence of `predictor` weights disagree")
    others = {name: value for name, value in model.items() if not name.startswith(("quantize", "predictor."))}
    config = _config(cfg)
    return Released(
        kind="tokenizer" if quantiser else "fine_tuned" if head else "encoder",
        layout=layout,
        config=config,
        front_end=_front_end(cfg),
        encoder=_rename(others, weight_names(config)),
        head=head,
        head_dropout=float(cfg.get("predictor_dropout", 0.0)),
        labels=_labels(content.get("label_dict") or {}, head),
        multi_label=multi_label,
        quantiser=quantiser,
        notes=notes,
    )


def _config(cfg: Mapping[str, Any]) -> BeatsConfig:
    missing = sorted(_STRUCTURAL - cfg.keys())
    if missing:
        # The defaults of the released class do not fit any of the released weights.
        raise ArtifactError(f"`cfg` lacks {_listed(missing)}")
    _refuse("settings in `cfg`", cfg.keys() - _KNOWN)
    options = {ours: cfg[theirs] for theirs, ours in {**SETTINGS, **TRAINING_SETTINGS}.items() if theirs in cfg}
    options["norm"] = "pre" if cfg[NORM_FIRST] else "post"
    options["gated"] = options["gated"] and options["relative_bias"]
    if options["activation"] == "gelu_fast":
        options["activation"] = "gelu_accurate"
    try:
        return BeatsConfig(**options)
    except ValidationError as error:
        raise ArtifactError(f"`cfg` describes an encoder that we cannot build: {_reasons(error)}") from error


def _front_end(cfg: Mapping[str, Any]) -> KaldiFbankConfig:
    size = cfg[PATCH_SIZE]
    if not isinstance(size, int) or size < 1 or MEL_BINS % size:
        raise ArtifactError(f"`cfg.{PATCH_SIZE}` must divide {MEL_BINS}, but is {size!r}")
    mean, std = (cfg.get(name, usual) for name, usual in zip(STATISTICS, (AUDIOSET_MEAN, AUDIOSET_STD), strict=True))
    try:
        return KaldiFbankConfig(mel_bins=MEL_BINS, patch_frames=size, patch_bins=size, mean=mean, std=std)
    except ValidationError as error:
        raise ArtifactError(f"`cfg` describes a front end that we cannot build: {_reasons(error)}") from error


def _labels(label_dict: Mapping[Any, Any], head: Mapping[str, Tensor]) -> Sequence[str]:
    classes = len(head["linear.weight"]) if head else 0
    if label_dict and set(label_dict) != set(range(classes)):
        raise ArtifactError(f"`label_dict` must name each of the {classes} classes by its number, but does not")
    return tuple(str(label_dict[number]) for number in sorted(label_dict))


def _rename(model: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    _refuse("weights", model.keys() - names.keys())
    renamed: dict[str, Tensor] = {}
    for theirs, value in model.items():
        ours = names[theirs]
        if ours == TABLE and TABLE in renamed and not torch.equal(renamed[TABLE], value):
            raise ArtifactError(f"`{theirs}` differs from that of layer 0, but the layers must share one table")
        renamed[ours] = to_ours(ours, value)
    return renamed


def _reasons(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc']))} {item['msg']}".strip() for item in error.errors())


def _refuse(what: str, unknown: Iterable[Any]) -> None:
    names = sorted(map(str, unknown))
    if names:
        raise ArtifactError(f"unknown {what}: {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
