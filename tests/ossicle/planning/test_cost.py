"""The cost of a training step: compared with counts by hand, and with steps that really run."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.experiment import TrainingConfig
from ossicle.core.interfaces import Encoder, FrontEnd, Head, Objective, Tokenizer
from ossicle.core.plugin_loading import load_plugins
from ossicle.planning import cost
from ossicle.planning.cost import Noise, StepCost, count_step, measure_steps

WIDTH, HIDDEN, LAYERS, CLASSES = 48, 80, 2, 5
BEATS = {"layers": 1, "width": 32, "feed_forward": 64, "heads": 2, "patch_width": 16, "conv_position_kernel": 8,
         "conv_position_groups": 4}  # fmt: skip
NOISE = Noise(seconds=1.0, classes=CLASSES)
TRAINING = TrainingConfig(steps=10)
CATALOG = load_plugins().catalog


def made(kind: str, name: str, expected: type[Any], config: dict[str, Any], **offers: Any) -> Any:
    return build(PartChoice.of(CATALOG.get(kind, name), config, catalog=CATALOG), expected, **offers)


@pytest.fixture
def front_end() -> FrontEnd:
    found: FrontEnd = made("front_end", "kaldi_fbank", FrontEnd, {"mel_bins": 32})
    return found


def classification(front_end: FrontEnd) -> Objective:
    shape = {"layers": LAYERS, "width": WIDTH, "feed_forward": HIDDEN, "heads": 3}
    encoder = made("encoder", "plain_vit", Encoder, shape, patch_dim=front_end.patch_dim, bands=front_end.bands)
    head = made("head", "linear", Head, {}, width=WIDTH, classes=CLASSES)
    found: Objective = made("objective", "classification", Objective, {}, encoder=encoder, head=head, multi_label=False)
    return found


def masked_prediction(front_end: FrontEnd) -> tuple[Objective, list[nn.Module]]:
    offers = {"patch_dim": front_end.patch_dim, "bands": front_end.bands}
    encoder = made("encoder", "beats", Encoder, BEATS, **offers)
    tokenizer = made("tokenizer", "random_projection", Tokenizer, {"codebook_size": 16, "codebook_dim": 8}, **offers)
    predictor = {"predictor": {"layers": 1, "heads": 2}}
    return made("objective", "masked_prediction", Objective, predictor, encoder=encoder, tokenizer=tokenizer), [
        tokenizer
    ]


def distillation(front_end: FrontEnd) -> tuple[Objective, list[nn.Module]]:
    offers = {"patch_dim": front_end.patch_dim, "bands": front_end.bands}
    choice = PartChoice.of(CATALOG.get("encoder", "beats"), BEATS)
    teacher = made("encoder", "beats", Encoder, BEATS, **offers)
    config = {"codebook_size": 16, "codebook_dim": 8}
    tokenizer = made("tokenizer", "self_distilled", Tokenizer, config, encoder_choice=choice, **offers)
    estimator = {"estimator": {"layers": 1, "heads": 2}}
    return made("objective", "distillation", Objective, estimator, tokenizer=tokenizer, teacher=teacher), [teacher]


def test_operations_and_parameters_of_a_small_encoder_match_a_count_by_hand(front_end: FrontEnd) -> None:
    found = count_step(classification(front_end), front_end, NOISE, TRAINING)
    patches, patch_dim = 12, 256  # a second has 98 frames: 6 columns of 2 bands
    embedding = 2 * patches * patch_dim * WIDTH
    projections = 2 * patches * WIDTH * (4 * WIDTH + 2 * HIDDEN)
    attention = 2 * 2 * patches**2 * WIDTH
    forward = embedding + LAYERS * (projections + attention) + 2 * patches * WIDTH * CLASSES
    # The backward pass has two products for each product, but no gradient reaches the patches.
    assert found.flops == 3 * forward - embedding
    layer = 4 * WIDTH * (WIDTH + 1) + HIDDEN * (WIDTH + 1) + WIDTH * (HIDDEN + 1) + 2 * 2 * WIDTH
    encoder = WIDTH * (patch_dim + 1) + LAYERS * layer + 2 * WIDTH
    assert found.patches == patches
    assert found.kept == {"encoder": encoder, "head": CLASSES * (WIDTH + 1)}
    assert found.parameters == sum(found.kept.values())


@pytest.mark.slow
@pytest.mark.parametrize("objective", [masked_prediction, distillation])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_count_with_fake_compute_equals_one_with_real_compute(
    objective: Any, precision: Any, front_end: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = TRAINING.model_copy(update={"precision": precision})

    def counted() -> StepCost:
        torch.manual_seed(0)
        trained, inputs = objective(front_end)
        return count_step(trained, front_end, NOISE, training, inputs=inputs)

    # Small tensors are computed, so these must count as large.
    monkeypatch.setattr(cost, "LARGE", 64)
    found = counted()
    monkeypatch.setattr(cost, "fake_compute", nullcontext)
    assert found == counted()
    assert found.flops > 0 < found.clip_bytes


@pytest.mark.slow
def test_memory_counts_trained_parameters_four_times_and_frozen_ones_once(front_end: FrontEnd) -> None:
    objective, (teacher,) = distillation(front_end)
    without_teacher = count_step(objective, front_end, NOISE, TRAINING)
    with_teacher = count_step(objective, front_end, NOISE, TRAINING, inputs=[teacher])
    frozen = sum(tensor.nbytes for tensor in (*teacher.parameters(), *teacher.buffers()))
    assert with_teacher.fixed_bytes - without_teacher.fixed_bytes == frozen
    assert without_teacher.fixed_bytes >= 16 * without_teacher.parameters
    longer = count_step(objective, front_end, Noise(seconds=2.0), TRAINING, inputs=[teacher])
    assert longer.clip_bytes > 1.9 * with_teacher.clip_bytes
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_measured_steps_are_real(front_end: FrontEnd) -> None:
    objective = classification(front_end)
    before = [parameter.detach().clone() for parameter in objective.parameters()]
    taken = measure_steps(objective, front_end, NOISE, TRAINING, most_clips=3)
    assert taken.clips == 3
    assert 0 < taken.seconds < 10
    assert not any(torch.equal(old, new) for old, new in zip(before, objective.parameters(), strict=True))
