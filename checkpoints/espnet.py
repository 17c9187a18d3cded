"""Bring checkpoints of ESPnet's BEATs (OpenBEATs, arXiv 2507.14129) into the form of the released ones.

What was read: `espnet2/beats/{encoder,tokenizer,espnet_model,utils,generate_beats_checkpoint}.py` and
`espnet2/cls/decoder/linear_decoder.py` of ESPnet, and the package `openbeats` 0.1.1. Its encoders and tokenizers name
their weights as the released ones do. They differ in this:

- There are two files: `{"cfg", "model"}` with the encoder alone, and the weights of a whole training, where the encoder
  lies below `encoder.` and the settings in `config.yaml`. DeepSpeed puts the latter below `module`.
- `patch_embedding_pad` and `raw2fbank_pad` are filters of ones that count padding. Their rule, a patch is padding when
  any of its samples is, is that of our front end.
- `cfg` states what differs from the defaults of ESPnet's class, and settings of label predictors.
- Predictors and teachers (`decoder`, `teacher`) are left out; `decoder.linear_out` is a classifier of mean vectors.
- Filter-bank statistics stand in `config.yaml`, in `cfg` for OpenBEATs' own reader, or nowhere. Where they stand
  nowhere AudioSet's are assumed, as OpenBEATs does, and the checkpoint carries a note that says so.

Their random tokenizer is drawn from a seed and never saved. Not held against files that ESPnet's authors published:
names, settings and outputs were held against those of their code with random weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from torch import Tensor

from ..core.errors import ArtifactError
from .torch_files import read_torch_file

CONFIG_FILE: Final = "config.yaml"

_DEFAULTS: Final[Mapping[str, Any]] = {
    "input_patch_size": 16,
    "embed_dim": 512,
    "conv_bias": False,
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": False,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "relative_position_embedding": False,
    "num_buckets": 320,
    "max_distance": 1280,
    "gru_rel_pos": False,
    "layer_wise_gradient_decay_ratio": 1.0,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "dropout_input": 0.0,
}
_PREDICTOR_SETTINGS: Final = frozenset(
    {
        "decoder_embed_dim",
        "decoder_pos_trainable",
        "decoder_attention_heads",
        "decoder_mlp_ratio",
        "decoder_layers",
        "codebook_vocab_size",
        "mask_ratio",
        "use_flash_attn",
        "embed_loss_beta",
        "seed",
        "finetuned_model",
        "predictor_dropout",
        "predictor_class",
    }
)
_COUNTERS: Final = ("patch_embedding_pad.weight", "raw2fbank_pad.weight")
_STATISTICS: Final = ("fbank_mean", "fbank_std")
_STEM: Final = "patch_embedding.weight"
_OTHER_OUTPUTS: Final = ("max_layer", "use_weighted_representation", "adapter_config", "add_positional_information")
_ASSUMED: Final = (
    "the file does not say which filter-bank statistics it was trained with; AudioSet's were assumed. If they were "
    f"others (ESPnet's newer default is 15.29130 and 5.90532), put the training's {CONFIG_FILE} beside the file"
)


@dataclass(frozen=True)
class Translated:
    """A checkpoint of ESPnet's in the released form.

    Attributes:
        content: with the keys `cfg` and `model`, and `label_dict` where the classes have names
        multi_label: whether several classes may hold at once
        notes: what had to be assumed or left out, for people
    """

    content: Mapping[str, Any]
    multi_label: bool
    notes: Sequence[str]


def is_espnet(content: Any) -> bool:
    """Whether the loaded content of a file is one of ESPnet's."""
    if not isinstance(content, Mapping):
        return False
    if {"cfg", "model"} <= content.keys():
        return is_state(content["model"]) and any(name in content["model"] for name in _COUNTERS)
    weights = content.get("module", content)
    return is_state(weights) and any(name in weights for name in (_STEM, f"encoder.{_STEM}"))


def is_state(weights: Any) -> bool:
    """Whether a value maps names to tensors."""
    return isinstance(weights, Mapping) and all(isinstance(value, Tensor) for value in weights.values())


def translate(content: Mapping[str, Any], folder: Path | None) -> Translated:
    """Bring a file's content into the released form.

    Args:
        folder: where `config.yaml` may lie

    Raises:
        ArtifactError: if the settings are nowhere to be found, or change what the encoder gives
    """
    training = _training(folder)
    conf = _mapping(training, "encoder_conf")
    _refuse_other_outputs(conf)
    if {"cfg", "model"} <= content.keys():
        weights, stated = content["model"], content["cfg"]
    else:
        weights, stated = content.get("module", content), _architecture(conf, folder)
    notes: list[str] = []
    encoder, head = _parted(weights)
    pooling = _mapping(training, "decoder_conf").get("pooling", "mean")
    if head and pooling != "mean":
        notes.append(f"its classifier pools by `{pooling}`, which ours does not, and was left out")
        head = {}
    cfg = {**_DEFAULTS, **{name: value for name, value in stated.items() if name not in _PREDICTOR_SETTINGS}}
    cfg |= {name: conf[name] for name in _STATISTICS if name in conf}
    if not cfg.keys() >= set(_STATISTICS):
        notes.append(_ASSUMED)
    multi_label, label_dict = True, {}
    if head:
        classes = len(head["predictor.weight"])
        dropout = float(_mapping(training, "decoder_conf").get("dropout", 0.0))
        cfg |= {"finetuned_model": True, "predictor_class": classes, "predictor_dropout": dropout}
        multi_label = _mapping(training, "model_conf").get("classification_type") == "multi-label"
        label_dict = _labels(training.get("token_list"), classes, notes)
    return Translated({"cfg": cfg, "model": encoder | head, "label_dict": label_dict}, multi_label, notes)


def _refuse_other_outputs(conf: Mapping[str, Any]) -> None:
    off = (type(None), bool, str)  # of these, false and empty mean no; layer 0 is a layer
    changing = [name for name in _OTHER_OUTPUTS if conf.get(name) or not isinstance(conf.get(name), off)]
    if conf.get("downsampling_rate", 1) > 1:
        changing.append("downsampling_rate")
    if changing:
        named = ", ".join(f"`{name}`" for name in changing)
        raise ArtifactError(f"{CONFIG_FILE} sets {named}, which gives the encoder another output than BEATs'")


def _training(folder: Path | None) -> Mapping[str, Any]:
    path = folder / CONFIG_FILE if folder is not None else None
    if path is None or not path.is_file():
        return {}
    try:
        loaded = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} beside it cannot be read: {error}") from error
    return loaded if isinstance(loaded, Mapping) else {}


def _mapping(training: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = training.get(key)
    return value if isinstance(value, Mapping) else {}


def _architecture(conf: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The settings of an encoder whose file holds weights alone: those of the file it started from, and its own."""
    if not conf:
        raise ArtifactError(
            f"this file of ESPnet's holds weights alone: put the {CONFIG_FILE} of its training beside it"
        )
    own = {**_mapping(conf, "beats_config"), **_mapping(conf, "tokenizer_config")}
    start = conf.get("beats_ckpt_path") or conf.get("beats_tokenizer_ckpt_path")
    if start is None:
        return own
    path = (folder or Path()) / Path(str(start)).name
    if not path.is_file():
        raise ArtifactError(
            f"{CONFIG_FILE} says that the encoder was built like {start}: put that file beside it, as {path.name}"
        )
    base = read_torch_file(path)
    if not isinstance(base, Mapping) or not isinstance(base.get("cfg"), Mapping):
        raise ArtifactError(f"{path}, like which the encoder was built, holds no `cfg`")
    return {**base["cfg"], **own}


def _parted(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the encoder and of a classifier, under their released names."""
    if _STEM in weights:
        encoder, head = dict(weights), {}
    else:
        encoder = {name.removeprefix("encoder."): weights[name] for name in weights if name.startswith("encoder.")}
        head = {
            name.replace("decoder.linear_out.", "predictor."): value
            for name, value in weights.items()
            if name.startswith("decoder.linear_out.")
        }
        rest = [name for name in weights if not name.startswith(("encoder.", "decoder.", "teacher."))]
        encoder |= {name: weights[name] for name in rest}  # whoever reads on refuses what it does not know
    return {name: value.float() for name, value in encoder.items() if name not in _COUNTERS}, head


def _labels(tokens: Any, classes: int, notes: list[str]) -> dict[int, str]:
    """Number the classes; ESPnet's list of them ends in a symbol for unknown ones, which has no output."""
    if not isinstance(tokens, list) or len(tokens) != classes + 1 or tokens[-1] != "<unk>":
        notes.append(f"the names of its {classes} classes could not be told from {CONFIG_FILE}")
        return {}
    return {number: str(label) for number, label in enumerate(tokens[:classes])}
