"""Training steps of ESPnet, composed of its modules.

Sources: `espnet2/beats/espnet_model.py` and `espnet2/beats/tokenizer.py` of ESPnet, and its recipes for AudioSet
(dropout 0.1, no layer drop).

Notable choices:

- The steps are composed here, because ESPnet's training code is not in the packages on PyPI.
- The figures that ESPnet logs at every step are left out, which is in its favour.
- DeepSpeed is left out, which ESPnet's recipes use to train on several GPUs.
- The released quantiser is used, because ESPnet's quantiser is a copy of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from types import ModuleType
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.data import SpectrogramBatch
from ..core.distributed import compute_device
from .peers import Weights, espnet_model
from .protocol import computing_in
from .work import Precision

CODES: Final = 1024
CODE_DIM: Final = 256
LAYERS: Final = 3
"""Layers of the predictor and of the estimator."""

Modules: TypeAlias = Mapping[str, Any]
"""Components of peers: `beats` returns ESPnet's module, `quantiser` creates the released quantiser."""


class PeerStep(ABC):
    """An optimiser step on a batch of frames.

    Args:
        learner: ESPnet's encoder that is trained
        others: other modules that are trained
    """

    def __init__(self, learner: Any, others: Iterable[nn.Module], batch: SpectrogramBatch) -> None:
        self.learner = learner
        self.batch = batch
        self._trained = nn.ModuleList([learner, *others]).to(compute_device()).train()
        self._optimizer = torch.optim.AdamW(self._trained.parameters(), lr=5e-4, betas=(0.9, 0.98), weight_decay=0.01)

    @abstractmethod
    def loss(self) -> Tensor:
        """Compute the loss of the batch."""

    def __call__(self, precision: Precision) -> float:
        """Take the step and return the loss."""
        with computing_in(precision), redirect_stdout(StringIO()):
            loss = self.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._trained.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    @torch.no_grad()
    def vectors(self) -> Tensor:
        """Encode whole clips in evaluation mode: (real patches, D)."""
        self.learner.eval()
        pretraining, self.learner.is_pretraining = self.learner.is_pretraining, False
        sequence, lengths, _ = self.learner(self.batch.frames, self.batch.lengths, waveform_input=False)
        self.learner.is_pretraining = pretraining
        self.learner.train()
        vectors: Tensor = sequence[torch.arange(sequence.shape[1], device=lengths.device) < lengths[:, None]]
        return vectors


class Pretraining(PeerStep):
    """ESPnet's masked prediction of given tokens."""

    def __init__(self, modules: Modules, weights: Weights, batch: SpectrogramBatch) -> None:
        beats, cfg = modules["beats"](), _settings(weights)
        learner = _loaded(espnet_model(beats, cfg, is_pretraining=True), weights)
        self._predictor = beats.BeatsPretrainingPredictor(cfg)
        super().__init__(learner, [self._predictor], batch)
        patches = self.vectors().shape[0] // len(batch.lengths)
        self._labels = torch.randint(CODES, (len(batch.lengths), patches), device=compute_device())

    def loss(self) -> Tensor:
        seen, lengths, restore, kept = self.learner(self.batch.frames, self.batch.lengths, waveform_input=False)
        logits = self._predictor(seen, lengths, restore, kept).transpose(1, 2)  # (B, K, N)
        each = F.cross_entropy(logits, self._labels, reduction="none", label_smoothing=0.1)
        loss: Tensor = (each * ~kept).sum() / (~kept).sum()
        return loss


class _Estimator(nn.Module):
    """Estimates the teacher's vectors from codes: (B, N, d) to (B, N, D)."""

    def __init__(self, beats: ModuleType, cfg: Weights) -> None:
        super().__init__()
        self.connect = nn.Linear(CODE_DIM, cfg["encoder_embed_dim"])
        # ESPnet's predictor of masked positions consists of the same layers.
        self.blocks = beats.BeatsPretrainingPredictor(cfg).decoder_blocks
        self.norm = nn.LayerNorm(cfg["encoder_embed_dim"])

    def forward(self, codes: Tensor) -> Tensor:
        sequence, bias = self.connect(codes).transpose(0, 1), None
        for block in self.blocks:
            sequence, _, bias = block(sequence, self_attn_padding_mask=None, need_weights=False, pos_bias=bias)
        vectors: Tensor = self.norm(sequence.transpose(0, 1))
        return vectors


class Distillation(PeerStep):
    """ESPnet's distillation of a tokenizer."""

    def __init__(self, modules: Modules, weights: Weights, batch: SpectrogramBatch) -> None:
        beats, cfg = modules["beats"](), _settings(weights)
        learner = _loaded(espnet_model(beats, cfg), weights)
        self._teacher = _loaded(espnet_model(beats, cfg), weights).eval().requires_grad_(False)
        width = cfg["encoder_embed_dim"]
        self._project = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, CODE_DIM))
        self._quantise = modules["quantiser"](CODES, CODE_DIM, beta=1.0, kmeans_init=False, decay=0.99)
        self._estimate = _Estimator(beats, cfg)
        super().__init__(learner, [self._project, self._quantise, self._estimate], batch)

    def loss(self) -> Tensor:
        with torch.no_grad():
            target = self._encode(self._teacher)
        codes, commitment, _ = self._quantise(self._project(self._encode(self.learner)))
        cosine = F.cosine_similarity(target, self._estimate(codes), dim=-1)
        loss: Tensor = (1 - cosine).mean() + commitment
        return loss

    def _encode(self, encoder: nn.Module) -> Tensor:
        vectors: Tensor = encoder(self.batch.frames, self.batch.lengths, waveform_input=False)[0]
        return vectors


def _settings(weights: Weights) -> dict[str, Any]:
    """Return ESPnet's settings for an encoder with the given weights."""
    cfg = dict(weights["cfg"])
    return cfg | {
        "encoder_layerdrop": 0.0,
        "dropout_input": 0.0,
        "decoder_layers": LAYERS,
        "decoder_embed_dim": cfg["encoder_embed_dim"],
        "codebook_vocab_size": CODES,
        "mask_ratio": 0.75,
    }


def _loaded(model: nn.Module, weights: Weights) -> nn.Module:
    model.load_state_dict(weights["model"], strict=False)
    return model.to(compute_device())


@dataclass(frozen=True)
class Composition:
    """A step composed of components of peers.

    Attributes:
        make: creates the step
        about: description of the step
        needs: the names in `Modules` that it needs
    """

    make: Callable[[Modules, Weights, SpectrogramBatch], PeerStep]
    about: str
    needs: frozenset[str]


ESPNET_PRETRAINING: Final = Composition(
    Pretraining,
    "openbeats' BeatsEncoder on the visible quarter without gaps and BeatsPretrainingPredictor of 3 layers on all "
    "positions, label-smoothed cross-entropy of given tokens on hidden positions, clipped gradients, torch's AdamW",
    frozenset({"beats"}),
)
ESPNET_DISTILLATION: Final = Composition(
    Distillation,
    "openbeats' BeatsEncoder, ESPnet's projection, the released NormEMAVectorQuantizer, 3 layers of openbeats' "
    "predictor, a frozen BeatsEncoder as the teacher, cosine and embedding loss, clipped gradients, torch's AdamW",
    frozenset({"beats", "quantiser"}),
)
