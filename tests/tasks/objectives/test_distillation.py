"""Distillation: its loss compared with a slow implementation, its gradients, and both kinds of teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.data import Grid, PatchBatch
from ossicle.core.errors import PluginError
from ossicle.core.interfaces import Encoder, Head, Tokenizer
from ossicle.core.plugin_loading import load_plugins
from ossicle.tasks.objectives.distillation import Distillation
from ossicle.tasks.objectives.objective_config import DistillationConfig

PATCH_DIM, BANDS = 12, 4
ENCODER = {
    "layers": 1, "width": 32, "heads": 2, "feed_forward": 32, "patch_width": 16, "conv_position_kernel": 8,
    "conv_position_groups": 4, "dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, "layer_drop": 0.0,
}  # fmt: skip
ESTIMATOR = {"layers": 1, "heads": 2, "dropout": 0.0, "attention_dropout": 0.0}


def make(kind: str, name: str, expected: Any, config: dict[str, Any], *, seed: int = 0, **offers: Any) -> Any:
    catalog = load_plugins().catalog
    choice = PartChoice.of(catalog.get(kind, name), config, catalog=catalog)
    encoder = PartChoice.of(catalog.get("encoder", "beats"), ENCODER)
    return build(choice, expected, seed=seed, patch_dim=PATCH_DIM, bands=BANDS, encoder_choice=encoder, **offers)


def objective(*, classes: int | None = None, tokenizer: str = "self_distilled", **options: Any) -> Distillation:
    sizes = {"levels": [4, 3]} if tokenizer == "fsq_distilled" else {"codebook_size": 16, "codebook_dim": 6}
    head = None if classes is None else make("head", "linear", Head, {}, width=32, classes=classes)
    return Distillation(
        DistillationConfig.model_validate_json(
            DistillationConfig(**{"estimator": ESTIMATOR, **options}).model_dump_json()
        ),
        make("tokenizer", tokenizer, Tokenizer, sizes),
        make("encoder", "beats", Encoder, ENCODER, seed=7),
        head,
    )


def clips(*columns: int, seed: int = 0) -> PatchBatch:
    grid = Grid(max(columns), BANDS)
    patches = torch.randn(len(columns), grid.patches, PATCH_DIM, generator=torch.Generator().manual_seed(seed))
    return PatchBatch(patches, torch.arange(grid.patches) < torch.tensor(columns)[:, None] * BANDS, grid)


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_the_loss_equals_a_slow_implementation(layer: int | None) -> None:
    made, batch = objective(commitment=0.3, teacher_layer=layer).eval().requires_grad_(False), clips(3, 5)
    output = made(batch)
    teacher = made._frozen[0](batch, layers=True)
    target = teacher.sequence if layer is None else teacher.layers[layer]
    quantised = made.tokenizer.quantise(batch)
    estimate = made._estimate(quantised.vectors, batch)
    loss = 0.0
    for clip, position in batch.valid.nonzero().tolist():
        o, t = estimate[clip, position], target[clip, position]
        vector, code = (
            made.tokenizer.encode(batch)[clip, position],
            made.tokenizer.codebook.codes[quantised.ids[clip, position]],
        )
        loss += float(1 - (o @ t) / (o.norm() * t.norm()) + 0.3 * (vector - code).square().mean())
    assert float(output.loss) == pytest.approx(loss, rel=1e-4)
    assert output.count == 8 * BANDS
    assert int(output.histograms["tokens"].sum()) == output.count


def test_the_teacher_is_frozen_and_outside_the_module() -> None:
    made, batch = objective().train(), clips(4)
    teacher = made._frozen[0]
    made(batch).loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not teacher.training
    assert not {id(parameter) for parameter in teacher.parameters()} & {id(p) for p in made.parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", ["self_distilled", "residual_distilled", "fsq_distilled"])
def test_a_tokenizer_learns_to_predict_its_teacher(tokenizer: str) -> None:
    made = objective(tokenizer=tokenizer).train()
    batches = [clips(6, 6, seed=seed) for seed in range(4)]
    torch.manual_seed(0)
    made.prepare(batches)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    cosines = []
    for step in range(60):
        output = made(batches[step % 4])
        (output.loss / output.count).backward()
        optimizer.step()
        optimizer.zero_grad()
        cosine, count = output.metrics["cosine"]
        cosines.append(float(cosine / count))
    assert sum(cosines[-4:]) / 4 > sum(cosines[:4]) / 4 + 0.2


def test_the_targets_of_a_fine_tuned_teacher_are_its_logits() -> None:
    made, batch = objective(classes=5, target="logits"), clips(3, 5)
    output = made(batch)
    teacher, head = made._frozen
    assert made._teach(batch).shape == (2, 5)
    torch.testing.assert_close(made._teach(batch), head(teacher(batch)))
    output.loss.backward()
    assert all(parameter.grad is None for parameter in head.parameters())
    assert output.count == 8 * BANDS


def test_patch_logits_give_each_patch_a_target() -> None:
    made, batch = objective(classes=5, target="patch_logits"), clips(3, 5)
    made.prepare([batch])
    teacher, head = made._frozen
    assert made._teach(batch).shape == (2, 5 * BANDS, 5)
    mean = torch.stack([logits[real].mean(0) for logits, real in zip(made._teach(batch), batch.valid, strict=True)])
    torch.testing.assert_close(mean, head(teacher(batch)))
    assert made(batch).count == 8 * BANDS
    pooled = make("head", "pooled", Head, {}, width=32, classes=5)
    with pytest.raises(PluginError, match="head `PooledHead` has no logits of single patches: use `head: linear`"):
        pooled.patch_logits(teacher(batch))


def test_the_tokenizer_normalises_its_input_and_the_teacher_does_not() -> None:
    made, batch = objective(), clips(4, 5)
    made.tokenizer.input_normalization = "clip_mean"
    made.eval().requires_grad_(False)
    louder = replace(batch, patches=batch.patches + 3.0 * batch.valid[..., None])
    tokens = made.tokenizer.tokenize(batch).ids
    assert torch.equal(made.tokenizer.tokenize(louder).ids[batch.valid], tokens[batch.valid])
    assert not torch.allclose(made._teach(batch), made._teach(louder))
    torch.testing.assert_close(made.tokenizer.quantise(made.tokenizer.input_of(batch)).ids, tokens)


def test_padding_changes_nothing() -> None:
    made, batch = objective(classes=5, target="logits").eval().requires_grad_(False), clips(3, 5)
    noisy = PatchBatch(batch.patches + 5.0 * ~batch.valid[..., None], batch.valid, batch.grid)
    assert float(made(batch).loss) == pytest.approx(float(made(noisy).loss), rel=1e-4)


@pytest.mark.parametrize("classes", [None, 5])
def test_targets_are_standardised(classes: int | None) -> None:
    target = "hidden" if classes is None else "logits"
    made = objective(classes=classes, target=target).requires_grad_(False)
    batches = [clips(6, 4, 6, 4, 6, seed=seed) for seed in range(3)]
    made.prepare(batches)
    outputs = [made._teach(batch) for batch in batches]
    flat = torch.cat([t[batch.valid] if classes is None else t for t, batch in zip(outputs, batches, strict=True)])
    torch.testing.assert_close(made.target_mean, flat.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made.target_std, flat.std(0, correction=0), atol=1e-5, rtol=1e-4)
    plain = objective(classes=classes, target=target, standardise=False)
    plain.prepare(batches)
    assert not plain.target_mean.any()
    assert (plain.target_std == 1).all()


@pytest.mark.parametrize("standardise", [True, False])
def test_principal_components_are_uncorrelated_with_unit_variance(standardise: bool) -> None:
    made = objective(principal_components=3, standardise=standardise).requires_grad_(False)
    batches = [clips(6, 4, 6, 4, 6, seed=seed) for seed in range(3)]
    made.prepare(batches)
    targets = torch.cat([made.target(batch)[batch.valid] for batch in batches])
    torch.testing.assert_close(targets.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cov(targets.T, correction=0), torch.eye(3), atol=1e-3, rtol=0)
    outputs = torch.cat([made._teach(batch)[batch.valid] for batch in batches]).double().numpy()
    if standardise:
        outputs /= outputs.std(0)
    expected = PCA(3, whiten=True, svd_solver="full").fit_transform(outputs)
    agreement = np.abs((expected * targets.numpy()).mean(0))
    np.testing.assert_allclose(agreement, 1.0, atol=2e-3)


def test_incompatible_settings_are_refused() -> None:
    with pytest.raises(PluginError, match="`principal_components` is 1000, but the teacher's vectors have 32 numbers"):
        objective(principal_components=1000)
    with pytest.raises(PluginError, match=r"`estimator.heads` must divide `width`, but 3 does not divide 32"):
        objective(estimator={**ESTIMATOR, "heads": 3})
    with pytest.raises(PluginError, match="`teacher_layer` must be one of 0 to 1, the teacher's layers, but is 2"):
        objective(teacher_layer=2)(clips(3))
    with pytest.raises(PluginError, match="`target: logits` needs a teacher with a classifier"):
        objective(target="logits")
    with pytest.raises(PluginError, match="trains a `QuantisingTokenizer`, but `RandomProjection` is not one"):
        objective(tokenizer="random_projection")


def test_each_stream_of_tokens_is_counted_separately() -> None:
    made, batch = objective(tokenizer="residual_distilled").eval(), clips(3, 5)
    output = made(batch)
    assert made.histogram_sizes == {"tokens": 4 * 16}
    ids = made.tokenizer.tokenize(batch).ids[batch.valid]  # (32, 4)
    slow = torch.stack([torch.bincount(stream, minlength=16) for stream in ids.T])
    assert torch.equal(output.histograms["tokens"].view(4, 16), slow)
    used = [int((stream > 0).sum()) for stream in slow]
    assert made.summarise(output.histograms)["tokens_used"] == sum(used) / 4
    assert made.arrays(batch)["tokens"].shape == batch.valid.shape


def test_a_collapsed_codebook_warns() -> None:
    made = objective()
    counts = torch.zeros(16, dtype=torch.int64)
    counts[3] = 100
    metrics = dict(made.summarise({"tokens": counts}))
    assert metrics == {"token_perplexity": pytest.approx(1.0), "tokens_used": 1}
    assert "collapsed" in made.warnings(metrics, 0.1)[0]
    assert made.warnings({"token_perplexity": 12.0}, 0.1) == []
