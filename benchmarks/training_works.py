"""Training works: one optimiser step of pre-training, of distillation and of fine-tuning.

Notable choices:

- A step equals that of the engine (autocast over normalisation and objective, a mean loss, clipped gradients, fused
  AdamW). It starts from frames, as the data pipeline yields them.
- Settings are those of `presets/beats/base.yaml`, except for the label smoothing of pre-training, which is ESPnet's.
- The compared output is that of the trained encoder for whole clips in evaluation mode, because nothing else of peers
  can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from ..checkpoints.writing import release_encoder
from ..core.data import SpectrogramBatch
from ..core.distributed import compute_device
from ..core.experiment import TrainingConfig
from ..core.interfaces import Encoder, Objective, building_with
from ..encoders.encoder_config import LinearHeadConfig
from ..encoders.head import LinearHead
from ..tasks.objectives.classification import Classification
from ..tasks.objectives.distillation import Distillation
from ..tasks.objectives.masked_prediction import MaskedPrediction
from ..tasks.objectives.objective_config import (
    ClassificationConfig,
    DistillationConfig,
    EstimatorConfig,
    MaskedPredictionConfig,
    PredictorConfig,
)
from ..tokenizers.random_projection import RandomProjection
from ..tokenizers.tokenizer_config import RandomProjectionConfig
from ..training.objective_extras import augment
from ..training.optimization import build_optimizer
from .inference_works import encoder, front_end, products, tokenizer
from .peer_steps import ESPNET_DISTILLATION, ESPNET_PRETRAINING, Composition, PeerStep
from .peers import Peer
from .protocol import computing_in
from .work import OURS, SAMPLE_RATE, Case, Contender, Precision, Work

SETTINGS = TrainingConfig(steps=1)
MASK_RATIO = 0.75
CODES = 1024
LABEL_SMOOTHING = 0.1
CLASSES = 527


def frames_of(case: Case, *, classes: int = 0) -> SpectrogramBatch:
    """Create a batch of frames as the data pipeline yields it."""
    clips, own = case.clips(), front_end().cpu()
    transform = own.transform
    frames = [
        own.spectrogram(wave[:length], transform=transform)
        for wave, length in zip(clips.waveform, clips.lengths.tolist(), strict=True)
    ]
    batch = SpectrogramBatch(
        frames=nn.utils.rnn.pad_sequence(frames, batch_first=True),
        lengths=torch.tensor([len(clip) for clip in frames]),
        samples=clips.lengths,
        clips=torch.arange(case.batch),
        labels=nn.functional.one_hot(torch.arange(case.batch), classes).float() if classes else None,
        draws=torch.arange(case.batch),
    )
    batch.to(compute_device())
    return batch


class Step:
    """An optimiser step as in the engine.

    Args:
        learner: the encoder that the objective trains
    """

    def __init__(self, objective: Objective, learner: Encoder, batch: SpectrogramBatch) -> None:
        self._objective = objective.to(compute_device()).train()
        self._learner = learner
        self._front_end = front_end()
        self._batch = batch
        self._optimizer = build_optimizer(objective, SETTINGS)

    def __call__(self, precision: Precision) -> float:
        """Take the step and return the loss."""
        with computing_in(precision):
            patches = self._front_end.patches(augment(self._objective, self._batch))
            output = self._objective(patches)
        loss: Tensor = output.loss / output.count
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._objective.parameters(), SETTINGS.max_grad_norm or float("inf"))
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    @torch.no_grad()
    def vectors(self) -> Tensor:
        """Encode whole clips in evaluation mode: (real patches, D)."""
        self._learner.eval()
        encoded = self._learner(self._front_end.patches(self._batch))
        self._learner.train()
        vectors: Tensor = encoded.sequence[encoded.valid]
        return vectors


def pretrain_work(case: Case, peers: Sequence[Peer]) -> Work:
    """Prepare a step of masked prediction of random-projection tokens."""
    batch = frames_of(case)

    def step(predictor: PredictorConfig) -> Step:
        config = MaskedPredictionConfig(mask_ratio=MASK_RATIO, predictor=predictor, label_smoothing=LABEL_SMOOTHING)
        projection = RandomProjection(RandomProjectionConfig(codebook_size=CODES, normalize="none"), patch_dim=256)
        learner = encoder(case.size)
        with building_with(1):
            objective = MaskedPrediction(config, learner, projection.to(compute_device()))
        return Step(objective, learner, batch)

    common = "tokens by random projection, encoder on the visible quarter at its true positions"
    full, light = PredictorConfig(layers=3), PredictorConfig(layers=1, width=384, attention="cross")
    makers = {
        **_espnet_makers(peers, lambda: encoder(case.size), batch, ESPNET_PRETRAINING),
        **_step_makers(OURS, lambda: step(full), f"{common}, full predictor of 3 layers"),
        **_step_makers(
            f"{OURS} light",
            lambda: step(light),
            f"{common}, light predictor (`{{layers: 1, width: 384, attention: cross}}`)",
        ),
    }
    visible = round((1 - MASK_RATIO) * _patches(batch))
    return _work(case, batch, makers, patches=visible)


def distil_work(case: Case, peers: Sequence[Peer]) -> Work:
    """Prepare a step of self-distillation of a tokenizer."""
    batch = frames_of(case)

    def step() -> Step:
        learner, teacher = tokenizer(case.size), encoder(case.size)
        config = DistillationConfig(standardise=False, estimator=EstimatorConfig(layers=3))
        with building_with(1):
            return Step(Distillation(config, learner, teacher), learner.encoder, batch)

    about = "frozen teacher, tokenizer with codebook update, estimator of 3 layers"
    makers = {
        **_espnet_makers(peers, lambda: tokenizer(case.size).encoder, batch, ESPNET_DISTILLATION),
        **_step_makers(OURS, step, about),
    }
    return _work(case, batch, makers, patches=_patches(batch))


def fine_tune_work(case: Case, peers: Sequence[Peer]) -> Work:
    """Prepare a step of fine-tuning on multi-label clips."""
    batch = frames_of(case, classes=CLASSES)

    def step() -> Step:
        learner = encoder(case.size)
        with building_with(1):
            head = LinearHead(LinearHeadConfig(), learner.width, CLASSES)
            return Step(Classification(ClassificationConfig(), learner, head, multi_label=True), learner, batch)

    makers = _step_makers(OURS, step, f"encoder on whole clips, linear classifier of {CLASSES} classes")
    return _work(case, batch, makers, patches=_patches(batch))


def _step_makers(name: str, step: Callable[[], Step | PeerStep], about: str) -> dict[str, Callable[[], Contender]]:
    """Create the contenders of a step in both precisions, which share one model."""
    made = cache(step)

    def maker(precision: Precision) -> Callable[[], Contender]:
        def make() -> Contender:
            taken = made()
            given = taken.vectors if precision == "fp32" else None
            return Contender(lambda: taken(precision), f"{about}; {precision}", precision, given, trains=True)

        return make

    return {f"{name} {precision}": maker(precision) for precision in ("fp32", "bf16")}


def _espnet_makers(
    peers: Sequence[Peer], learner: Callable[[], Encoder], batch: SpectrogramBatch, composition: Composition
) -> dict[str, Callable[[], Contender]]:
    """Create the contenders of ESPnet's step if the peers have all components."""
    modules = {name: lent for peer in peers for name, lent in peer.modules.items()}
    if not composition.needs <= modules.keys():
        return {}

    def step() -> PeerStep:
        return composition.make(modules, release_encoder(learner(), front_end()).content, batch)

    return _step_makers("espnet", step, composition.about)


def _patches(batch: SpectrogramBatch) -> int:
    """Count the patches of a clip, padding included."""
    return front_end().patches(batch).grid.patches


def _work(case: Case, batch: SpectrogramBatch, makers: Mapping[str, Callable[[], Contender]], *, patches: int) -> Work:
    seconds = float(batch.samples.sum()) / SAMPLE_RATE
    return Work(case, seconds, makers, f"{OURS} fp32", products(case, patches))
