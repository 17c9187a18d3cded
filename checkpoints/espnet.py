"""Convert checkpoints of ESPnet's BEATs (OpenBEATs, arXiv 2507.14129) to the released format.

Sources: `espnet2/beats/{encoder,tokenizer,espnet_model,utils,generate_beats_checkpoint}.py` and
`espnet2/cls/decoder/linear_decoder.py` of ESPnet, and the package `openbeats` 0.1.1. The names of the weights of its
encoders and tokenizers are the released ones. The differences are:

- There are two kinds of files: `{"cfg", "model"}` with only the encoder, and the weights of a whole training. In the
  latter, the encoder is below `encoder.` and the settings are in `config.yaml`. DeepSpeed puts these weights below
  `module`.
- `patch_embedding_pad` and `raw2fbank_pad` are filters of ones that count padding. Their rule is that of our front end:
  a patch is padding if any of its samples is.
- `cfg` states what differs from the defaults of ESPnet's class, and the settings of label predictors.
- Predictors and teachers (`decoder`, `teacher`) are left out. `decoder.linear_out` is a classifier of mean vectors.
- Filter-bank statistics are in `config.yaml`, in `cfg` (for OpenBEATs' reader), or missing. If they are missing, those
  of AudioSet are assumed, as in OpenBEATs, and a note of the checkpoint says so.

ESPnet's random tokenizer is drawn from a seed and never saved. Names, settings and outputs were compared with those of
ESPnet's code with random weights, but not with files that its authors published.
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
    "the file does not state the filter-bank statistics of its training; those of AudioSet are assumed. If it used "
    f"others (ESPnet's newer default is 15.29130 and 5.90532), put the training's {CONFIG_FILE} beside the file"
)


@dataclass(frozen=True)
class Translated:
    """A checkpoint of ESPnet in the released format.

    Attributes:
        content: a mapping with the keys `cfg` and `model`, and `label_dict` if the classes have names
        multi_label: whether a clip can have several classes
        notes: what was assumed or left out, for people
    """

    content: Mapping[str, Any]
    multi_label: bool
    notes: Sequence[str]


def is_espnet(content: Any) -> bool:
    """Return whether the loaded content of a file is a checkpoint of ESPnet."""
    if not isinstance(content, Mapping):
        return False
    if {"cfg", "model"} <= content.keys():
        return is_state(content["model"]) and any(name in content["model"] for name in _COUNTERS)
    weights = content.get("module", content)
    return is_state(weights) and any(name in weights for name in (_STEM, f"encoder.{_STEM}"))


def is_state(weights: Any) -> bool:
    """Return whether a value maps names to tensors."""
    return isinstance(weights, Mapping) and all(isinstance(value, Tensor) for value in weights.values())


def translate(content: Mapping[str, Any], folder: Path | None) -> Translated:
    """Convert the content of a file to the released format.

    Args:
        folder: the folder of `config.yaml`, if there is one

    Raises:
        ArtifactError: if the settings are missing, or change the output of the encoder
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
        notes.append(f"its classifier pools by `{pooling}`, which ours does not support, and was left out")
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
    off = (type(None), bool, str)  # falsy values of these types mean off, but the number 0 is a layer
    changing = [name for name in _OTHER_OUTPUTS if conf.get(name) or not isinstance(conf.get(name), off)]
    if conf.get("downsampling_rate", 1) > 1:
        changing.append("downsampling_rate")
    if changing:
        named = ", ".join(f"`{name}`" for name in changing)
        raise ArtifactError(
            f"{CONFIG_FILE} sets {named}, which changes the encoder's output; only that of BEATs is supported"
        )


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
    """Collect the settings of an encoder whose file holds only weights.

    These are the settings of the file that the training started from, replaced by those of the training.

    Raises:
        ArtifactError: if one of the files is missing, or has no settings
    """
    if not conf:
        raise ArtifactError(f"this file of ESPnet holds only weights: put the {CONFIG_FILE} of its training beside it")
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
        raise ArtifactError(f"the encoder was built like {path}, but that file has no `cfg`")
    return {**base["cfg"], **own}


def _parted(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split weights into those of the encoder and those of a classifier, under their released names."""
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
        encoder |= {name: weights[name] for name in rest}  # `convert_released` refuses unknown weights
    return {name: value.float() for name, value in encoder.items() if name not in _COUNTERS}, head


def _labels(tokens: Any, classes: int, notes: list[str]) -> dict[int, str]:
    """Number the classes. ESPnet's list of them ends with a symbol for unknown classes, which has no output."""
    if not isinstance(tokens, list) or len(tokens) != classes + 1 or tokens[-1] != "<unk>":
        notes.append(f"the names of its {classes} classes could not be read from {CONFIG_FILE}")
        return {}
    return {number: str(label) for number, label in enumerate(tokens[:classes])}
