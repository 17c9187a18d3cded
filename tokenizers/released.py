"""Released tokenizers as ours, and ours as released ones.

A released tokenizer is an encoder with `quantize_layer`, our projection, and `quantize`, our codebook. Notable choices:
`quantize.cluster_size` is our usage; three further buffers of the released codebook serve its k-means start alone, so
that ours has none like them, and writing fills them in.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.catalog import Catalog
from ..core.config import PartChoice
from ..core.errors import ArtifactError
from ..core.interfaces import Tokenizer
from ..core.parts import build
from ..encoders.checkpoint import load_weights
from ..encoders.released import Released
from .self_distilled import SelfDistilled
from .settings import SelfDistilledConfig

CODES = "quantize.embedding.weight"
_NAMES: Mapping[str, str] = {
    CODES: "codebook.codes",
    "quantize.cluster_size": "codebook.usage",
    "quantize_layer.0.weight": "project.0.weight",
    "quantize_layer.0.bias": "project.0.bias",
    "quantize_layer.2.weight": "project.2.weight",
    "quantize_layer.2.bias": "project.2.bias",
}
_START = {
    "quantize.embedding.cluster_size",
    "quantize.embedding.embed_avg",
    "quantize.embedding.initted",
}


def build_tokenizer(released: Released, catalog: Catalog) -> Tokenizer:
    """Build a released tokenizer with its weights, in evaluation mode.

    Raises:
        ArtifactError: if the checkpoint is none, its weights do not fit, or its codebook has never been trained
    """
    if released.kind != "tokenizer":
        raise ArtifactError("this checkpoint is an encoder and no tokenizer")
    unknown = sorted(released.quantiser.keys() - _NAMES.keys() - _START)
    if unknown or CODES not in released.quantiser:
        raise ArtifactError(f"the tokenizer's weights are not those of BEATs: {', '.join(unknown) or f'no {CODES}'}")
    codes = released.quantiser[CODES].float()
    if not torch.allclose(codes.norm(dim=-1), torch.ones(len(codes)), atol=1e-2):
        raise ArtifactError("the tokenizer's codes are not of unit length: its codebook has never been trained")
    encoder = PartChoice(catalog.get("encoder", "beats"), released.config)
    size, dim = codes.shape
    config = SelfDistilledConfig(encoder=encoder, codebook_size=size, codebook_dim=dim)
    front_end = released.front_end
    tokenizer = build(
        PartChoice(catalog.get("tokenizer", "self_distilled"), config),
        Tokenizer,
        patch_dim=front_end.patch_dim,
        bands=front_end.bands,
        encoder_choice=encoder,
    )
    state = {f"encoder.{name}": value for name, value in released.encoder.items()}
    state |= {ours: released.quantiser[theirs] for theirs, ours in _NAMES.items() if theirs in released.quantiser}
    load_weights(tokenizer, state)
    return tokenizer


def quantiser_weights(tokenizer: SelfDistilled) -> dict[str, Tensor]:
    """The weights of a tokenizer beyond its encoder, under their released names."""
    ours = tokenizer.state_dict()
    codes, usage = tokenizer.codebook.codes, tokenizer.codebook.usage
    start = {
        "quantize.embedding.cluster_size": usage.clone(),
        "quantize.embedding.embed_avg": codes.clone(),
        "quantize.embedding.initted": torch.ones(1),
    }
    return {theirs: ours[name] for theirs, name in _NAMES.items()} | start
