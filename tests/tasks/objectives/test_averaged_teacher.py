"""The averaged teacher: its updates, its targets, and that nothing else changes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ossicle.core.data import Encoded, Grid, PatchBatch, VisiblePatches
from ossicle.core.errors import PluginError
from ossicle.core.interfaces import Encoder, building_with
from ossicle.encoders.encoder_config import PlainVitConfig
from ossicle.encoders.vit import PlainVit
from ossicle.tasks.objectives.averaged_teacher import AveragedTeacher
from ossicle.tasks.objectives.objective_config import AveragedTeacherConfig, PredictorConfig

PATCH_DIM, BANDS, LAYERS = 6, 2, 3


class Shallow(Encoder):
    """An encoder that does not return the outputs of its layers."""

    width = 4

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH_DIM, 4)

    def forward(self, batch: PatchBatch, *, visible: VisiblePatches | None = None, layers: bool = False) -> Encoded:
        sequence, valid = self.embed(batch.patches), batch.valid
        if visible is not None:
            sequence = sequence.gather(1, visible.index[..., None].expand(-1, -1, 4))
            valid = visible.valid
        return Encoded(sequence, valid, batch.grid)


def objective(encoder: Encoder | None = None, **options: Any) -> AveragedTeacher:
    predictor = PredictorConfig(layers=1, heads=2, dropout=0.0, attention_dropout=0.0)
    with building_with(0):
        encoder = encoder or PlainVit(PlainVitConfig(layers=LAYERS, width=16, heads=2, dropout=0.2), PATCH_DIM)
        return AveragedTeacher(AveragedTeacherConfig(predictor=predictor, **options), encoder)


def clips(*columns: int) -> PatchBatch:
    grid = Grid(max(columns), BANDS)
    patches = torch.randn(len(columns), grid.patches, PATCH_DIM, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(grid.patches) < torch.tensor(columns)[:, None] * BANDS
    return PatchBatch(patches, valid, grid, draws=torch.arange(len(columns)))


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_the_teacher_is_the_running_average_of_the_encoder_with_a_rising_decay() -> None:
    made = objective(decay=0.5, final_decay=0.9, decay_steps=2).train()
    optimizer = torch.optim.SGD([parameter for parameter in made.parameters() if parameter.requires_grad], lr=0.1)
    expected = weights(made.encoder)
    for decay in (0.5, 0.7, 0.9, 0.9):
        student = weights(made.encoder)
        expected = {name: decay * value + (1 - decay) * student[name] for name, value in expected.items()}
        made(clips(4, 6)).loss.backward()
        for name, value in weights(made.teacher.encoder).items():
            torch.testing.assert_close(value, expected[name])
        optimizer.step()
        optimizer.zero_grad()
        assert not torch.equal(made.encoder.embed.weight, student["embed.weight"])
    assert int(made.teacher.updates) == 4


def test_only_training_updates_the_teacher_and_a_checkpoint_contains_it() -> None:
    made = objective(decay=0.0, final_decay=0.0).train()
    assert not list(made.teacher.parameters())
    assert not any(name.startswith("teacher") for name, _ in made.named_parameters())
    with torch.no_grad():
        made.encoder.embed.weight.add_(1.0)
    before = weights(made.teacher)
    made.eval()(clips(3))
    assert all(torch.equal(value, before[name]) for name, value in weights(made.teacher).items())
    made.train()(clips(3))
    assert torch.equal(made.teacher.encoder.embed.weight, made.encoder.embed.weight)

    other = objective().train()
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.teacher.encoder.embed.weight, made.encoder.embed.weight)
    assert int(other.teacher.updates) == 1
    # The teacher must not share tensors with the encoder.
    with torch.no_grad():
        made.encoder.embed.weight.zero_()
    assert made.teacher.encoder.embed.weight.abs().sum() > 0


def test_the_teacher_has_no_dropout_while_the_encoder_learns() -> None:
    made = objective(decay=1.0, final_decay=1.0).train()
    assert made.encoder.training
    assert not made.teacher.encoder.training
    one, two = (made._targets(clips(4, 6))[0] for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize("top_layers", [1, 2, None])
def test_targets_equal_a_slow_implementation(top_layers: int | None) -> None:
    made, batch = objective(top_layers=top_layers).eval(), clips(4, 7)
    of_patches, of_clips = made._targets(batch)
    for clip, columns in enumerate((4, 7)):
        real = columns * BANDS
        single = PatchBatch(
            batch.patches[clip : clip + 1, :real], batch.valid[clip : clip + 1, :real], Grid(columns, 2)
        )
        layers = made.encoder(single, layers=True).layers[-(top_layers or LAYERS) :]
        instance = [nn.functional.instance_norm(layer.transpose(1, 2)).transpose(1, 2)[0] for layer in layers]
        mean = sum(instance) / len(layers)
        expected = (mean - mean.mean(-1, keepdim=True)) / (mean.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(of_patches[clip, :real], expected, rtol=1e-3, atol=1e-4)
        whole = (sum(layers) / len(layers))[0].mean(0)
        expected = (whole - whole.mean()) / (whole.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(of_clips[clip], expected, rtol=1e-3, atol=1e-4)


def test_a_whole_clip_has_the_weight_of_its_hidden_patches() -> None:
    batch, weight = clips(4, 7), 0.5
    with_clips = objective(clip_loss=weight).eval()
    without = objective().eval()
    without.load_state_dict({name: value for name, value in with_clips.state_dict().items() if "to_clip" not in name})
    predicted = with_clips.predict(batch)
    difference = 0.0
    for clip in range(2):
        seen = predicted.encoded.sequence[clip, predicted.encoded.valid[clip]].mean(0)
        error = (with_clips.to_clip(seen) - with_clips._targets(batch)[1][clip]).square().mean()
        difference += weight * int(predicted.hidden[clip].sum()) * float(error.detach())
    found = with_clips(batch).loss.item() - without(batch).loss.item()
    assert found == pytest.approx(difference, rel=1e-3)
    assert with_clips(batch).count == without(batch).count


def test_collapsed_targets_warn() -> None:
    (warning,) = objective().warnings({"loss": 0.001, "guessing_loss": 0.005}, 0.1)
    assert warning.startswith("the targets have collapsed: their variance is 0.0050")


def test_incompatible_settings_are_reported() -> None:
    with pytest.raises(ValidationError, match=r"`final_decay` \(0.9\) must be at least `decay` \(0.99\)"):
        AveragedTeacherConfig(decay=0.99, final_decay=0.9)
    deep = AveragedTeacherConfig(top_layers=8)
    assert deep.check_compatibility({"encoder_layers": 12}) == []
    (problem,) = deep.check_compatibility({"encoder_layers": 4})
    assert problem == "`top_layers` must be at most 4, the encoder's layers, but is 8"
    with pytest.raises(
        PluginError, match="needs the outputs of 8 layers, but the encoder returns 3: lower `top_layers`"
    ):
        objective(top_layers=8)(clips(3))
    with pytest.raises(PluginError, match="needs the outputs of 1 layers, but the encoder returns 0"):
        objective(Shallow())(clips(3))
