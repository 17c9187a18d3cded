"""Tests of all objectives that hide patches: gradients, hidden information, padding and resuming."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.data import Grid, PatchBatch
from ossicle.core.errors import ConfigError, Interrupted
from ossicle.core.experiment import TrainingConfig
from ossicle.core.interfaces import Encoder, FrontEnd, Objective, Tokenizer
from ossicle.core.plugin_loading import load_plugins
from ossicle.core.store import find_artifact
from ossicle.experiment.run import run
from ossicle.planning.cost import Noise, count_step
from ossicle.planning.plan import plan
from ossicle.tasks.objectives.masked import MaskedObjective
from ossicle.training.objective_extras import parameter_groups

PATCH_DIM, BANDS = 12, 4
CATALOG = load_plugins().catalog
SHAPE = {"layers": 2, "width": 32, "heads": 2, "feed_forward": 64}
BEATS = {**SHAPE, "conv_position_kernel": 12, "conv_position_groups": 4, "dropout": 0.0, "attention_dropout": 0.0,
         "input_dropout": 0.0, "layer_drop": 0.0}  # fmt: skip
OBJECTIVES = {
    "masked_prediction": {},
    "reconstruction": {},
    "averaged_teacher": {"decay": 0.9, "final_decay": 0.99, "decay_steps": 10, "clip_loss": 1.0},
}
EVERY = pytest.mark.parametrize("name", OBJECTIVES)
ATTENTION = pytest.mark.parametrize("attention", ["full", "cross"])


def made(kind: str, name: str, expected: Any, config: dict[str, Any], **offers: Any) -> Any:
    return build(PartChoice.of(CATALOG.get(kind, name), config, catalog=CATALOG), expected, **offers)


def objective(
    name: str, *, encoder: str = "beats", attention: str = "full", width: int | None = None, **options: Any
) -> MaskedObjective:
    shape = {"patch_dim": PATCH_DIM, "bands": BANDS}
    offers = {
        "encoder": made("encoder", encoder, Encoder, BEATS if encoder == "beats" else SHAPE, **shape),
        "tokenizer": made(
            "tokenizer", "random_projection", Tokenizer, {"codebook_size": 8, "codebook_dim": 6}, **shape
        ),
    }
    predictor = {"layers": 1, "heads": 2, "width": width, "attention": attention, "dropout": 0.0}
    config = {**OBJECTIVES[name], "predictor": {**predictor, "attention_dropout": 0.0}, **options}
    found: MaskedObjective = made("objective", name, Objective, config, **offers, **shape)
    return found


def clips(*columns: int, seed: int = 0) -> PatchBatch:
    """Create random clips, each with its `draws`. The padding is random too, so that any use of it shows."""
    grid = Grid(max(columns), BANDS)
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(len(columns), grid.patches, PATCH_DIM, generator=generator)
    valid = torch.arange(grid.patches) < torch.tensor(columns)[:, None] * BANDS
    return PatchBatch(patches, valid, grid, draws=torch.randint(2**62, (len(columns),), generator=generator))


@EVERY
def test_a_predictor_that_does_not_fit_the_encoder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"`predictor.heads` must divide `width`, but 3 does not divide 32"):
        objective(name, predictor={"heads": 3})


@EVERY
@ATTENTION
@pytest.mark.parametrize("encoder", ["beats", "plain_vit"])
def test_gradients_reach_all_trained_parameters(name: str, attention: str, encoder: str) -> None:
    trained = objective(name, encoder=encoder, attention=attention, width=16).train()
    trained(clips(4, 6)).loss.backward()
    for parameter_name, parameter in trained.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert "bias" in parameter_name or parameter.grad.abs().sum() > 0, parameter_name
    assert set(trained.parts()) == {"encoder"}
    assert [*parameter_groups(trained)[0].parameters] == [*trained.parameters()]


@EVERY
@ATTENTION
@pytest.mark.parametrize("masking", ["uniform", "block", "inverse_block", "time", "frequency"])
def test_predictions_do_not_depend_on_hidden_patches(name: str, attention: str, masking: str) -> None:
    trained, batch = objective(name, attention=attention, masking=masking, mask_ratio=0.6).eval(), clips(5, 3)
    before = trained.predict(batch)
    batch.patches[before.hidden | ~batch.valid] = 100.0
    after = trained.predict(batch)
    assert torch.equal(after.hidden, before.hidden)
    assert before.vectors.shape == (int(before.hidden.sum()), 32)
    torch.testing.assert_close(after.vectors, before.vectors)
    batch.patches[~before.hidden & batch.valid] += 1.0
    assert not torch.allclose(trained.predict(batch).vectors, before.vectors)


@EVERY
@ATTENTION
def test_the_loss_of_a_clip_does_not_depend_on_its_batch(name: str, attention: str) -> None:
    trained, together = objective(name, attention=attention).eval(), clips(2, 7, 4)
    assert together.draws is not None
    outputs = []
    for clip, columns in enumerate((2, 7, 4)):
        count = columns * BANDS
        patches, valid = together.patches[clip : clip + 1, :count], together.valid[clip : clip + 1, :count]
        outputs.append(trained(PatchBatch(patches, valid, Grid(columns, BANDS), draws=together.draws[clip : clip + 1])))
    assert trained(together).count == sum(output.count for output in outputs)
    torch.testing.assert_close(trained(together).loss, sum(output.loss for output in outputs), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attention"), [("masked_prediction", "cross"), ("reconstruction", "cross"), ("averaged_teacher", "full")]
)
def test_the_loss_falls_on_one_batch(name: str, attention: str) -> None:
    # A constant teacher, so that the targets are constant.
    constant = {"decay": 1.0, "final_decay": 1.0} if name == "averaged_teacher" else {}
    trained, batch = objective(name, attention=attention, mask_ratio=0.3, **constant).train(), clips(3, 4)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        output = trained(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item() / output.count)
    assert losses[-1] < 0.3 * losses[0]


@EVERY
@ATTENTION
def test_clips_of_one_patch_have_no_loss(name: str, attention: str) -> None:
    grid = Grid(1, BANDS)
    batch = PatchBatch(torch.randn(2, 4, PATCH_DIM), torch.arange(4).expand(2, 4) < 1, grid)
    output = objective(name, attention=attention).train()(batch)
    output.loss.backward()
    assert (output.loss.item(), output.count) == (0.0, 1)
    assert all(float(count) == 0 for _, count in output.metrics.values())


@pytest.mark.parametrize("name", ["reconstruction", "averaged_teacher"])
def test_the_guessing_loss_is_that_of_the_mean_of_the_targets(name: str) -> None:
    """If the last layer returns the mean of the targets, the loss equals `guessing_loss`."""
    options = {} if name == "reconstruction" else {"clip_loss": 0.0}
    trained, batch = objective(name, **options).eval(), clips(6, 5)
    last: Any = trained.to_patch if name == "reconstruction" else trained.to_target
    targets: Any = trained._targets(batch)
    target = (targets if name == "reconstruction" else targets[0])[trained.predict(batch).hidden]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = target.mean(0)
    output = trained(batch)
    total, count = output.metrics["guessing_loss"]
    assert count == output.count
    torch.testing.assert_close(total, output.loss.detach())
    assert float(total / count) > 0.1


@pytest.mark.parametrize("name", ["reconstruction", "averaged_teacher"])
def test_warns_in_the_second_half_if_nothing_is_learnt(name: str) -> None:
    trained = objective(name)
    assert trained.warnings({"loss": 1.1, "guessing_loss": 1.0}, 0.2) == []
    assert trained.warnings({"loss": 0.9, "guessing_loss": 1.0}, 0.9) == []
    (warning,) = trained.warnings({"loss": 1.1, "guessing_loss": 1.0}, 0.9)
    assert warning.startswith("nothing is learnt: the loss 1.100 is above 1.000")


@pytest.mark.slow
def test_the_light_predictor_computes_less_for_the_same_prediction() -> None:
    front_end = made("front_end", "kaldi_fbank", FrontEnd, {"mel_bins": 64})
    shape = {"patch_dim": front_end.patch_dim, "bands": front_end.bands}
    flops = {}
    for attention in ("full", "cross"):
        encoder = made("encoder", "plain_vit", Encoder, SHAPE, **shape)
        config = {"predictor": {"layers": 4, "heads": 2, "attention": attention}}
        trained = made("objective", "reconstruction", Objective, config, encoder=encoder, **shape)
        flops[attention] = count_step(trained, front_end, Noise(4.0), TrainingConfig(steps=2)).flops
    assert flops["cross"] < 0.9 * flops["full"]


# Whole experiments.

WITHOUT_TOKENIZER = ["schedule={type: single}", "evaluate=[]"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reconstruction", "averaged_teacher"])
def test_the_plan_counts_all_parameters_and_keeps_only_the_encoder(name: str, tiny: Path) -> None:
    overrides = [*WITHOUT_TOKENIZER, f"pretrain.objective={{type: {name}}}"]
    planned = {stage.stage.name: stage for stage in plan(tiny, overrides=overrides).stages}
    assert set(planned) == {"tones/survey", "untrained", "iteration 1/pretrain"}
    training = planned["iteration 1/pretrain"].training
    assert training is not None
    assert training.flops > 0
    assert set(training.cost.kept) == {"encoder"}
    assert training.cost.parameters > training.cost.kept["encoder"]


@pytest.mark.slow
def test_an_experiment_without_a_tokenizer_runs(tiny: Path, tmp_path: Path) -> None:
    predictor = "{layers: 1, heads: 2, attention: cross}"
    overrides = [*WITHOUT_TOKENIZER, f"pretrain.objective={{type: reconstruction, predictor: {predictor}}}"]
    folder = run(tiny, overrides=overrides, out=tmp_path / "runs")
    artifact = find_artifact(folder)
    assert set(artifact.card["parts"]) == {"encoder", "front_end"}
    curves = [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]
    assert curves[-1]["loss"] < curves[0]["loss"]
    assert "guessing_loss" in curves[-1]
    assert (folder / "report.html").is_file()


STOPPER = """
import signal
import ossicle

@ossicle.hookimpl
def ossicle_step_end(stage, step, metrics):
    if step == 3:
        signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("no_report", "own_plugins")
def test_an_interrupted_training_with_an_averaged_teacher_ends_as_an_uninterrupted_one(
    tiny: Path, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "stopper.py").write_text(STOPPER)
    overrides = [
        "evaluate=[]",
        "pretrain.objective={type: averaged_teacher, masking: inverse_block, decay: 0.5, clip_loss: 1.0}",
        "pretrain.steps=8",
        "pretrain.log_every=1",
        *WITHOUT_TOKENIZER,
    ]
    whole = find_artifact(run(tiny, overrides=overrides, out=tmp_path / "whole"))
    with pytest.raises(Interrupted, match="stopped after step 4 of 8"):
        run(tiny, overrides=[*overrides, f"plugins=[{tmp_path / 'stopper.py'}]"], out=tmp_path / "stopped")
    resumed = find_artifact(run(tiny, overrides=overrides, out=tmp_path / "stopped"))
    assert (resumed.path / "encoder.safetensors").read_bytes() == (whole.path / "encoder.safetensors").read_bytes()
    losses = [
        [json.loads(line)["loss"] for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]
        for artifact in (whole, resumed)
    ]
    assert losses[0] == losses[1]
    assert signal.getsignal(signal.SIGTERM) == before
