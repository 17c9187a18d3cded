"""Convert released tokenizers to ours, and ours to released ones.

A released tokenizer is an encoder with `quantize_layer`, our projection, and `quantize`, our codebook.

Notable choices:

- `quantize.cluster_size` is our usage.
- Three further buffers of the released codebook are used only for its k-means start, and our codebook does not have
  them. An imported artifact stores them beside its parts. Writing fills them in if there are none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.build import build
from ..core.catalog import Catalog
from ..core.choices import PartChoice
from ..core.errors import ArtifactError
from ..core.interfaces import FrontEnd, Tokenizer
from ..encoders.beats import Beats
from ..tokenizers.self_distilled import SelfDistilled
from ..tokenizers.tokenizer_config import SelfDistilledConfig
from .contents import load_weights
from .microsoft import QUANTISER, Released
from .writing import Release, encoder_problems, front_end_problems, refuse, release_parts

CODES = "quantize.embedding.weight"
_NAMES: Mapping[str, str] = {
    CODES: "codebook.codes",
    "quantize.cluster_size": "codebook.usage",
    "quantize_layer.0.weight": "project.0.weight",
    "quantize_layer.0.bias": "project.0.bias",
    "quantize_layer.2.weight": "project.2.weight",
    "quantize_layer.2.bias": "project.2.bias",
}
START_BUFFERS = {
    "quantize.embedding.cluster_size",
    "quantize.embedding.embed_avg",
    "quantize.embedding.initted",
}


def build_tokenizer(released: Released, catalog: Catalog) -> Tokenizer:
    """Build a released tokenizer with its weights, in evaluation mode.

    Raises:
        ArtifactError: if the checkpoint is not a tokenizer, its weights do not fit, or its codebook was never trained
    """
    if released.kind != "tokenizer":
        raise ArtifactError("this checkpoint is an encoder, not a tokenizer")
    unknown = sorted(released.quantiser.keys() - _NAMES.keys() - START_BUFFERS)
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


def release_tokenizer(tokenizer: Tokenizer, front_end: FrontEnd) -> Release:
    """Convert a tokenizer to the released format.

    Raises:
        ArtifactError: with everything that the released code cannot express
    """
    problems = front_end_problems(front_end)
    if isinstance(tokenizer, SelfDistilled):
        problems += encoder_problems(tokenizer.encoder)
    else:
        problems.append(f"its tokenizer is a {type(tokenizer).__name__}; the released code has the self-distilled one")
    refuse(problems)
    assert isinstance(tokenizer, SelfDistilled)
    assert isinstance(tokenizer.encoder, Beats)
    release = release_parts(tokenizer.encoder, front_end)
    release.content["cfg"] |= dict(zip(QUANTISER, (tokenizer.codebook_size, tokenizer.code_dim), strict=True))
    release.content["model"] |= _quantiser(tokenizer)
    return release


def _quantiser(tokenizer: SelfDistilled) -> dict[str, Tensor]:
    ours = {name: value.detach().cpu() for name, value in tokenizer.state_dict().items()}
    start = {
        "quantize.embedding.cluster_size": ours["codebook.usage"],
        "quantize.embedding.embed_avg": ours["codebook.codes"],
        "quantize.embedding.initted": torch.ones(1),
    }
    return {name: value.clone() for name, value in {**{one: ours[two] for one, two in _NAMES.items()}, **start}.items()}
