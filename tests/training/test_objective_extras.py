"""An objective needs two methods. Each optional method is used if it is defined, and has a default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ossicle.core.choices import PartChoice
from ossicle.core.data import Grid, PatchBatch, SpectrogramBatch
from ossicle.core.interfaces import Encoder, Objective, ObjectiveOutput
from ossicle.core.parts import build
from ossicle.core.plugin_loading import load_plugins
from ossicle.tasks.objectives.classification import Classification
from ossicle.tasks.objectives.masked_prediction import MaskedPrediction
from ossicle.training import objective_extras as extras

EXAMPLE = Path(__file__).parents[2] / "examples" / "denoise.py"


class Minimal(Objective):
    """Defines only the required methods, and has two layers, one of them frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.layers[1].requires_grad_(False)

    def forward(self, batch: PatchBatch) -> ObjectiveOutput:
        raise NotImplementedError

    def parts(self) -> Mapping[str, nn.Module]:
        return {}


class Full(Minimal):
    """Defines every optional method, and derives from none of the protocols."""

    prepared: Any = None

    def augment(self, batch: SpectrogramBatch) -> SpectrogramBatch:
        return SpectrogramBatch(batch.frames + 1, batch.lengths, batch.samples)

    def prepare(self, batches: Any) -> None:
        self.prepared = list(batches)

    def parameter_groups(self) -> list[extras.ParameterGroup]:
        return [extras.ParameterGroup([*self.layers[0].parameters()], lr_scale=0.5, decayed=False)]

    def shards(self) -> list[nn.Module]:
        return [self.layers[1]]

    @property
    def histogram_sizes(self) -> Mapping[str, int]:
        return {"tokens": 3}

    def summarise(self, histograms: Mapping[str, Tensor]) -> Mapping[str, float]:
        return {"total": float(histograms["tokens"].sum())}

    def warnings(self, metrics: Mapping[str, float], progress: float) -> list[str]:
        return [f"{metrics['loss']} at {progress}"]

    def arrays(self, batch: PatchBatch) -> Mapping[str, Tensor]:
        return {"tokens": batch.valid.long()}


SPECTROGRAMS = SpectrogramBatch(torch.zeros(1, 2, 3), torch.tensor([2]), torch.tensor([500]))
PATCHES = PatchBatch(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), Grid(1, 2))


def test_defaults() -> None:
    objective = Minimal()
    trained, frozen = objective.layers
    assert extras.augment(objective, SPECTROGRAMS) is SPECTROGRAMS
    extras.prepare(objective, iter(()))
    (group,) = extras.parameter_groups(objective)
    assert [*map(id, group.parameters)] == [*map(id, trained.parameters())]
    assert (group.lr_scale, group.decayed) == (1.0, True)
    assert extras.shards(objective) == [trained, frozen]
    assert extras.histogram_sizes(objective) == extras.summarise(objective, {}) == {}
    assert list(extras.warnings(objective, {"loss": 9.0}, 0.9)) == []
    assert extras.arrays(objective, PATCHES) == {}


def test_methods_that_are_defined_are_used() -> None:
    objective = Full()
    assert extras.augment(objective, SPECTROGRAMS).frames.min() == 1
    extras.prepare(objective, iter([PATCHES]))
    assert objective.prepared == [PATCHES]
    (group,) = extras.parameter_groups(objective)
    assert (group.lr_scale, group.decayed) == (0.5, False)
    assert extras.shards(objective) == [objective.layers[1]]
    assert extras.histogram_sizes(objective) == {"tokens": 3}
    assert extras.summarise(objective, {"tokens": torch.tensor([1, 0, 4])}) == {"total": 5.0}
    assert extras.warnings(objective, {"loss": 9.0}, 0.9) == ["9.0 at 0.9"]
    assert extras.arrays(objective, PATCHES)["tokens"].tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Minimal, False),
        (MaskedPrediction, False),
        (Full, True),
        (Classification, True),
        (lambda: Minimal(), True),
    ],
)
def test_may_augment_needs_no_objective_to_be_built(objective: Any, expected: bool) -> None:
    assert extras.may_augment(objective) is expected


def test_the_example_is_short_and_learns_to_remove_noise() -> None:
    assert len([line for line in EXAMPLE.read_text().splitlines() if line]) <= 25
    catalog = load_plugins([EXAMPLE]).catalog
    sizes = {"patch_dim": 6, "bands": 2}
    shape = {"layers": 1, "width": 32, "feed_forward": 32, "heads": 2}
    encoder = build(PartChoice.of(catalog.get("encoder", "plain_vit"), shape), Encoder, **sizes)
    objective = build(PartChoice.of(catalog.get("objective", "denoise"), {}), Objective, encoder=encoder, **sizes)
    generator = torch.Generator().manual_seed(0)
    # All numbers of a patch are -1 or all are 1, so noise can be removed.
    patches = torch.where(torch.rand(8, 4, 1, generator=generator) < 0.5, -1.0, 1.0).expand(8, 4, 6)
    batch = PatchBatch(patches, torch.ones(8, 4, dtype=torch.bool), Grid(2, 2))
    optimizer = torch.optim.AdamW(extras.parameter_groups(objective)[0].parameters, lr=3e-3)
    losses = []
    for _ in range(60):
        output = objective(batch)
        losses.append(output.loss.item() / output.count)
        optimizer.zero_grad()
        (output.loss / output.count).backward()
        optimizer.step()
    assert output.count == 32
    assert losses[-1] < 0.25 < 0.8 < losses[0]
