"""Classification: its loss compared with a slow implementation, augmentation, learning rates and frozen encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from ossicle.audio.augmentation_config import AugmentationConfig
from ossicle.core.data import Encoded, Grid, PatchBatch, SpectrogramBatch
from ossicle.core.errors import PluginError
from ossicle.core.interfaces import Encoder, building_with
from ossicle.encoders.beats import Beats
from ossicle.encoders.encoder_config import BeatsConfig, LinearHeadConfig, PlainVitConfig
from ossicle.encoders.head import LinearHead
from ossicle.encoders.vit import PlainVit
from ossicle.tasks.objectives.classification import Classification
from ossicle.tasks.objectives.objective_config import ClassificationConfig

PATCH_DIM, BANDS, LAYERS, CLASSES = 12, 2, 3, 4
SHAPE: dict[str, Any] = {"layers": LAYERS, "width": 16, "heads": 2, "feed_forward": 32}
STILL: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, "layer_drop": 0.0}


def beats(**options: Any) -> Beats:
    config = BeatsConfig(**SHAPE, patch_width=8, conv_position_kernel=4, conv_position_groups=4, **(STILL | options))
    return Beats(config, PATCH_DIM, BANDS)


def objective(*, multi_label: bool = False, encoder: dict[str, Any] | None = None, **options: Any) -> Classification:
    with building_with(0):
        made = beats(**(encoder or {}))
        head = LinearHead(LinearHeadConfig(), made.width, CLASSES)
        return Classification(ClassificationConfig(**options), made, head, multi_label)


def clips(labels: Tensor, columns: int = 3) -> PatchBatch:
    grid = Grid(columns, BANDS)
    patches = torch.randn(len(labels), grid.patches, PATCH_DIM, generator=torch.Generator().manual_seed(1))
    return PatchBatch(patches, torch.ones(patches.shape[:2], dtype=torch.bool), grid, labels=labels)


CLASS_OF = torch.tensor([0, 3, 1])
SEVERAL = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.3, 0.0, 0.7]])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_one_label_per_clip_is_the_cross_entropy(smoothing: float) -> None:
    made = objective(label_smoothing=smoothing)
    output = made(clips(CLASS_OF))
    logits = made.head(made.encoder(clips(CLASS_OF))).detach()
    loss = 0.0
    for clip, label in enumerate(CLASS_OF.tolist()):
        log_probabilities = logits[clip].log_softmax(0)
        loss -= float((1 - smoothing) * log_probabilities[label] + smoothing * log_probabilities.mean())
    assert output.loss.item() == pytest.approx(loss, rel=1e-5)
    assert output.count == 3
    right, count = output.metrics["accuracy"]
    assert (int(right), int(count)) == (int((logits.argmax(1) == CLASS_OF).sum()), 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_several_labels_per_clip_is_the_binary_cross_entropy(smoothing: float) -> None:
    made = objective(multi_label=True, label_smoothing=smoothing)
    output = made(clips(SEVERAL))
    logits = made.head(made.encoder(clips(SEVERAL))).detach()
    loss = 0.0
    for logit, label in zip(logits.flatten(), SEVERAL.flatten(), strict=True):
        yes = float(label) * (1 - smoothing) + smoothing / 2
        loss -= yes * float(logit.sigmoid().log()) + (1 - yes) * float((-logit).sigmoid().log())
    assert output.loss.item() == pytest.approx(loss, rel=1e-5)
    assert output.count == 12
    best = logits.argmax(1).tolist()
    assert int(output.metrics["top_class_right"][0]) == (best[0] in (0, 2)) + (best[2] == 3)


def test_the_loss_of_mixed_labels_is_the_mixture_of_losses() -> None:
    made = objective()
    shares = torch.tensor([[0.25, 0.75, 0.0, 0.0]])
    of_class = [made(clips(torch.tensor([label]))).loss.item() for label in (0, 1)]
    assert made(clips(shares)).loss.item() == pytest.approx(0.25 * of_class[0] + 0.75 * of_class[1], rel=1e-5)


def test_clips_without_labels_are_refused() -> None:
    batch = clips(CLASS_OF)
    batch.labels = None
    with pytest.raises(PluginError, match="learns from labels, but these clips have none"):
        objective()(batch)


# Augmentation.


def frames(labels: Tensor, seed: int = 0) -> SpectrogramBatch:
    spectrogram = torch.randn(len(labels), 10, 6, generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([10, 7, 4])
    return SpectrogramBatch(spectrogram, lengths, lengths * 160, torch.arange(3), labels, torch.tensor([5, 6, 7]))


def test_nothing_is_augmented_by_default() -> None:
    batch = frames(CLASS_OF)
    found = objective().augment(batch)
    assert torch.equal(found.frames, batch.frames)
    assert torch.equal(found.labels, torch.eye(CLASSES)[CLASS_OF])
    assert found.draws is batch.draws
    assert found.clips is batch.clips


@pytest.mark.parametrize("labels", [CLASS_OF, SEVERAL], ids=["one", "several"])
def test_mixup_mixes_labels_as_it_mixes_frames(labels: Tensor) -> None:
    made = objective(multi_label=labels.ndim == 2, augmentation=AugmentationConfig(mixup=0.7))
    batch = frames(labels)
    found = made.augment(batch)
    whole = torch.eye(CLASSES)[labels] if labels.ndim == 1 else labels
    for clip in range(3):
        length = int(batch.lengths[clip])
        fits = []
        for partner in range(3):
            both = min(length, int(batch.lengths[partner]))
            own, other = batch.frames[clip, :both], batch.frames[partner, :both]
            share = float(((found.frames[clip, :both] - own) / (other - own).where(own != other, 1)).mean())
            mixed = torch.lerp(own, other, share)
            labelled = torch.lerp(whole[clip], whole[partner], share * both / length)
            fits.append(
                torch.allclose(mixed, found.frames[clip, :both], atol=1e-4)
                and torch.allclose(labelled, found.labels[clip], atol=1e-4)
            )
        assert sum(fits) == 1


def test_augmentations_do_not_change_padding_lengths_or_the_given_batch() -> None:
    config = AugmentationConfig(roll=True, mixup=0.5, time_masks=2, frequency_masks=1)
    batch = frames(CLASS_OF)
    before = batch.frames.clone()
    found = objective(augmentation=config).augment(batch)
    padding = torch.arange(10) >= batch.lengths[:, None]
    assert torch.equal(found.frames[padding], before[padding])
    assert torch.equal(batch.frames, before)
    assert torch.equal(batch.labels, CLASS_OF)
    assert torch.equal(found.lengths, batch.lengths)
    assert not torch.equal(found.frames, before)


# Learning rates.


def scale_of(name: str, decay: float, *, pre_norm: bool = False) -> float:
    """Compute the closed form: decay ** (L - 1 - i) for layer i of L, decay ** L below the layers, 1 for the head."""
    if name.startswith("head."):
        return 1.0
    if name.startswith("encoder.stack.layers."):
        return float(decay ** (LAYERS - 1 - int(name.split(".")[3])))
    if name.startswith("encoder.stack.bias."):
        return float(decay ** (LAYERS - 1))
    if name.startswith("encoder.stack.norm.") and pre_norm:
        return 1.0
    return float(decay**LAYERS)


@pytest.mark.parametrize("decay", [1.0, 0.6])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_every_parameter_has_the_learning_rate_of_its_depth(decay: float, norm: str) -> None:
    made = objective(layer_lr_decay=decay, encoder={"norm": norm, "deep_norm": norm == "post"})
    names = {id(parameter): name for name, parameter in made.named_parameters()}
    seen = []
    for group in made.parameter_groups():
        for parameter in group.parameters:
            name = names[id(parameter)]
            seen.append(name)
            assert group.lr_scale == pytest.approx(scale_of(name, decay, pre_norm=norm == "pre")), name
            assert group.decayed == (parameter.ndim > 1), name
    assert sorted(seen) == sorted(names.values())


def steps_of(made: Classification, kind: type[AdamW] | type[SGD]) -> dict[str, float]:
    """Compute the largest change of each parameter in one step."""
    groups = made.parameter_groups()
    optimizer = kind([{"params": list(group.parameters), "lr": 1e-3 * group.lr_scale} for group in groups])
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    made(clips(CLASS_OF)).loss.backward()
    optimizer.step()
    return {name: (parameter.detach() - before[name]).abs().max().item() for name, parameter in made.named_parameters()}


CHECKED = [
    "encoder.stem.embed.weight",
    "encoder.stack.layers.0.feed_forward.expand.weight",
    "encoder.stack.layers.1.attention.value.weight",
    "head.linear.weight",
]


def test_learning_rate_decay_and_gradient_decay_differ() -> None:
    made: dict[str, dict[str, Any]] = {
        "plain": {},
        "rate": {"layer_lr_decay": 0.5},
        "gradient": {"encoder": {"gradient_decay": 0.5}},
    }
    adam, sgd = ({way: steps_of(objective(**options), kind) for way, options in made.items()} for kind in (AdamW, SGD))
    for name in CHECKED:
        scale = scale_of(name, 0.5)
        # Adam's first step has the length of the learning rate, at any scale of the gradient.
        assert adam["rate"][name] == pytest.approx(1e-3 * scale, rel=0.02)
        assert adam["gradient"][name] == pytest.approx(1e-3, rel=0.02)
        # A step of SGD is proportional to the gradient, so both options have the same effect.
        assert sgd["rate"][name] == pytest.approx(scale * sgd["plain"][name], rel=1e-3)
        assert sgd["gradient"][name] == pytest.approx(scale * sgd["plain"][name], rel=1e-3)


@pytest.mark.parametrize("encoder", [beats(), PlainVit(PlainVitConfig(**SHAPE), PATCH_DIM)], ids=["beats", "plain_vit"])
def test_the_depths_of_an_encoder_contain_each_parameter_once(encoder: Encoder) -> None:
    depths = encoder.depths()
    assert len(depths) == LAYERS + 1
    listed = [id(parameter) for modules in depths for module in modules for parameter in module.parameters()]
    assert sorted(listed) == sorted(id(parameter) for parameter in encoder.parameters())


class Odd(Encoder):
    """An encoder whose `depths` lack a parameter."""

    width = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.mask = nn.Parameter(torch.zeros(4))

    def forward(self, batch: PatchBatch, **options: Any) -> Encoded:
        raise NotImplementedError

    def depths(self) -> Sequence[Sequence[nn.Module]]:
        return [[self.layer]]


def test_depths_that_lack_a_parameter_are_refused() -> None:
    with pytest.raises(
        PluginError, match=r"`Odd.depths` must contain each of the .* once. It does not do so for `mask`$"
    ):
        Classification(ClassificationConfig(), Odd(), LinearHead(LinearHeadConfig(), 4, 2), False)


def test_a_frozen_encoder_has_neither_gradients_nor_dropout() -> None:
    made = objective(freeze_encoder=True, encoder={"dropout": 0.5, "layer_drop": 0.5})
    made.train()
    assert not made.encoder.training
    assert made.head.training
    (group, *others) = made.parameter_groups()
    parameters = [*group.parameters, *(one for other in others for one in other.parameters)]
    assert {id(one) for one in parameters} == {id(one) for one in made.head.parameters()}
    assert made(clips(CLASS_OF)).loss.item() == made(clips(CLASS_OF)).loss.item()
    made(clips(CLASS_OF)).loss.backward()
    assert all(parameter.grad is None for parameter in made.encoder.parameters())
    assert made.head.linear.weight.grad is not None
