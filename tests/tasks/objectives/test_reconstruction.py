"""Reconstruction: its loss compared with a slow implementation."""

from __future__ import annotations

import statistics

import pytest
import torch

from ossicle.core.data import Grid, PatchBatch
from ossicle.core.interfaces import building_with
from ossicle.encoders.encoder_config import PlainVitConfig
from ossicle.encoders.vit import PlainVit
from ossicle.tasks.objectives.objective_config import PredictorConfig, ReconstructionConfig
from ossicle.tasks.objectives.reconstruction import Reconstruction

PATCH_DIM, BANDS = 6, 2


def objective(*, normalise_targets: bool) -> Reconstruction:
    predictor = PredictorConfig(layers=1, heads=2, attention="cross")
    with building_with(0):
        encoder = PlainVit(PlainVitConfig(layers=1, width=16, heads=2), PATCH_DIM)
        config = ReconstructionConfig(predictor=predictor, normalise_targets=normalise_targets, mask_ratio=0.5)
        return Reconstruction(config, encoder, PATCH_DIM).eval()


@pytest.mark.parametrize("normalise_targets", [True, False])
def test_the_loss_equals_a_slow_implementation(normalise_targets: bool) -> None:
    made = objective(normalise_targets=normalise_targets)
    valid = torch.arange(10) < torch.tensor([[10], [6]])
    batch = PatchBatch(3 + 2 * torch.randn(2, 10, PATCH_DIM), valid, Grid(5, BANDS), draws=torch.tensor([5, 6]))
    output = made(batch)
    predicted = made.predict(batch)
    found = made.to_patch(predicted.vectors).tolist()
    loss = 0.0
    for number, (clip, position) in enumerate(predicted.hidden.nonzero().tolist()):
        patch = batch.patches[clip, position].tolist()
        if normalise_targets:
            mean, variance = statistics.fmean(patch), statistics.variance(patch)
            patch = [(value - mean) / (variance + 1e-6) ** 0.5 for value in patch]
        loss += sum((one - other) ** 2 for one, other in zip(found[number], patch, strict=True)) / PATCH_DIM
    assert output.count == len(found) == 5 + 3
    assert output.loss.item() == pytest.approx(loss, rel=1e-4)


def test_silence_gives_a_finite_loss() -> None:
    batch = PatchBatch(torch.full((1, 8, PATCH_DIM), -4.0), torch.ones(1, 8, dtype=torch.bool), Grid(4, BANDS))
    output = objective(normalise_targets=True)(batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert float(output.metrics["guessing_loss"][0]) == 0.0
