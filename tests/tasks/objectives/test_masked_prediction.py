"""Masked prediction: its loss compared with a slow implementation, several tokens per patch, and warnings."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ossicle.core.data import Grid, PatchBatch
from ossicle.core.interfaces import building_with
from ossicle.encoders.beats import Beats
from ossicle.encoders.encoder_config import BeatsConfig
from ossicle.tasks.objectives import masked as masked_objective
from ossicle.tasks.objectives.masked_prediction import MaskedPrediction
from ossicle.tasks.objectives.masking import Masking, mask, positions_of
from ossicle.tasks.objectives.objective_config import MaskedPredictionConfig, PredictorConfig
from ossicle.tokenizers.code_usage import entropy, perplexity
from ossicle.tokenizers.random_projection import RandomProjection
from ossicle.tokenizers.tokenizer_config import RandomProjectionConfig

PATCH_DIM, BANDS, CODES = 12, 4, 8
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, "layer_drop": 0.0}


def objective(
    *,
    width: int | None = None,
    positions: str = "absolute",
    attention: str = "full",
    codebooks: int = 1,
    bands: int = 1,
    **options: Any,
) -> MaskedPrediction:
    shape = {"size": "tiny", "layers": 1, "width": 32, "heads": 2, "feed_forward": 64}
    encoder_config = BeatsConfig(**shape, conv_position_kernel=12, conv_position_groups=4, **NO_DROPOUT)
    predictor = PredictorConfig(
        layers=1, width=width, heads=2, positions=positions, attention=attention, dropout=0.0, attention_dropout=0.0
    )
    tokens = RandomProjectionConfig(codebook_size=CODES, codebook_dim=6, codebooks=codebooks)
    with building_with(0):
        tokenizer = RandomProjection(tokens, PATCH_DIM)
        encoder = Beats(encoder_config, PATCH_DIM, BANDS)
        return MaskedPrediction(MaskedPredictionConfig(predictor=predictor, **options), encoder, tokenizer, bands)


def clips(*columns: int, seed: int = 0) -> PatchBatch:
    """Create random clips. The padding is random too, so that any use of it shows."""
    grid = Grid(max(columns), BANDS)
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(len(columns), grid.patches, PATCH_DIM, generator=generator)
    return PatchBatch(patches, torch.arange(grid.patches) < torch.tensor(columns)[:, None] * BANDS, grid)


@pytest.fixture
def fixed_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide by position, so that a clip has the same mask in any batch."""

    def by_position(batch: PatchBatch, ratio: float, masking: Masking) -> Any:
        hidden = batch.valid & (torch.arange(batch.valid.shape[1]) % 3 != 1)
        return positions_of(batch.valid & ~hidden), hidden

    monkeypatch.setattr(masked_objective, "mask", by_position)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("width", [None, 16])
def test_the_loss_equals_a_slow_implementation(smoothing: float, width: int | None) -> None:
    made, batch = objective(width=width, positions="relative", label_smoothing=smoothing), clips(3, 6, 5)

    torch.manual_seed(4)
    output = made(batch)

    torch.manual_seed(4)
    visible, _ = mask(batch, 0.75, made.masking)
    encoded = made.encoder(batch, visible=visible).sequence
    tokens = made.tokenizer(batch)
    loss, right, count = 0.0, 0, 0
    for clip in range(3):
        real = int(batch.valid[clip].sum())
        seen = visible.index[clip][visible.valid[clip]].tolist()
        sequence = [
            made.to_predictor(encoded[clip, seen.index(position)]) if position in seen else made.mask_embedding
            for position in range(real)
        ]
        predicted, _ = made.predictor(torch.stack(sequence)[None], valid=torch.ones(1, real, dtype=torch.bool))
        for position in range(real):
            if position not in seen:
                logits = made.to_tokens(predicted[0, position]).detach().log_softmax(-1)
                label = int(tokens[clip, position])
                loss += float(-(1 - smoothing) * logits[label] - smoothing * logits.mean())
                right += int(logits.argmax()) == label
                count += 1
    assert output.count == count == 9 + 18 + 15
    assert output.loss.item() == pytest.approx(loss, rel=1e-4)
    total, weight = output.metrics["masked_accuracy"]
    assert (int(total), float(weight)) == (right, count)


@pytest.mark.usefixtures("fixed_mask")
@pytest.mark.parametrize("attention", ["full", "cross"])
@pytest.mark.parametrize("positions", ["relative", "absolute"])
def test_the_loss_of_a_clip_does_not_depend_on_its_batch(positions: str, attention: str) -> None:
    made, together = objective(positions=positions, attention=attention).eval(), clips(2, 7, 4)
    single = []
    for clip, columns in enumerate((2, 7, 4)):
        count = columns * BANDS
        patches, valid = together.patches[clip : clip + 1, :count], together.valid[clip : clip + 1, :count]
        single.append(PatchBatch(patches, valid, Grid(columns, BANDS)))
    outputs = [made(batch) for batch in single]
    assert made(together).count == sum(output.count for output in outputs)
    torch.testing.assert_close(made(together).loss, sum(output.loss for output in outputs), rtol=1e-5, atol=1e-5)


def test_gradients_never_reach_the_tokenizer() -> None:
    made = objective(width=16)
    made(clips(4, 6)).loss.backward()
    assert not any("tokenizer" in name for name in made.state_dict())
    assert not any(buffer.requires_grad for buffer in made.tokenizer.buffers())
    assert set(made.parts()) == {"encoder"}


@pytest.mark.slow
def test_the_loss_falls_on_one_batch() -> None:
    torch.manual_seed(0)
    made, batch = objective(mask_ratio=0.3), clips(3, 4)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        torch.manual_seed(1)  # always the same mask
        output = made(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item() / output.count)
    assert losses[0] > 0.7 * math.log(CODES)
    assert losses[-1] < 0.3 * losses[0]
    torch.manual_seed(1)
    correct, count = made(batch).metrics["masked_accuracy"]
    assert correct == count


def test_histograms_count_tokens_and_predictions_of_hidden_patches() -> None:
    made, batch = objective(), clips(6, 3)
    torch.manual_seed(2)
    arrays = made.arrays(batch)
    torch.manual_seed(2)
    output = made(batch)
    hidden = arrays["hidden"]
    assert not (hidden & ~batch.valid).any()
    for name, ids in (("tokens", arrays["tokens"]), ("predictions", arrays["predicted"])):
        expected = [int((ids[hidden] == code).sum()) for code in range(CODES)]
        assert output.histograms[name].tolist() == expected
        assert made.histogram_sizes[name] == CODES
    assert (arrays["predicted"][~hidden] == -1).all()


def test_loss_and_metrics_of_several_tokens_per_patch_are_means_over_streams() -> None:
    """Compare three streams with three objectives of one stream that share everything but the classifier."""
    made, batch = objective(codebooks=3, label_smoothing=0.1), clips(4, 6)
    batch.draws = torch.tensor([11, 12])
    output = made(batch)
    hidden, logits = made._predict(batch)
    tokens = made.tokenizer.tokenize(batch).ids[hidden]
    assert logits.shape == (len(tokens), 3, CODES)
    losses, right = [], []
    for stream in range(3):
        rows = slice(stream * CODES, (stream + 1) * CODES)
        of_stream = made.predict(batch).vectors @ made.to_tokens.weight[rows].T + made.to_tokens.bias[rows]
        losses.append(torch.nn.functional.cross_entropy(of_stream, tokens[:, stream], label_smoothing=0.1).item())
        right.append((of_stream.argmax(-1) == tokens[:, stream]).float().mean().item())
        counted = torch.bincount(tokens[:, stream], minlength=CODES)
        assert torch.equal(output.histograms["tokens"][rows], counted)
    assert output.count == len(tokens)
    assert output.loss.item() / output.count == pytest.approx(sum(losses) / 3, rel=1e-5)
    total, weight = output.metrics["masked_accuracy"]
    assert float(total / weight) == pytest.approx(sum(right) / 3, rel=1e-5)

    figures = made.summarise(output.histograms)
    each = [perplexity(counts) for counts in output.histograms["tokens"].chunk(3)]
    assert figures["token_perplexity"] == pytest.approx(sum(each) / 3)
    assert len(output.histograms["tokens"]) == made.histogram_sizes["tokens"] == 3 * CODES
    arrays = made.arrays(batch)
    assert torch.equal(arrays["tokens"], made.tokenizer.tokenize(batch).ids[..., 0])
    assert torch.equal(arrays["predicted"][hidden], logits[:, 0].argmax(-1))


def test_figures_from_histograms() -> None:
    tokens, predictions = torch.tensor([4, 4, 0, 0, 0, 0, 0, 0]), torch.tensor([9, 0, 0, 0, 0, 0, 0, 0])
    figures = objective().summarise({"tokens": tokens, "predictions": predictions})
    assert figures["token_entropy"] == pytest.approx(math.log(2))
    assert figures["token_perplexity"] == pytest.approx(2)
    assert figures["tokens_used"] == 2
    assert figures["predicted_perplexity"] == pytest.approx(1)
    assert entropy(torch.zeros(3)) == 0


HEALTHY = {
    "token_perplexity": 7.0,
    "guessing_loss": math.log(7),
    "predicted_perplexity": 5.0,
    "loss": 1.5,
    "level_guess_loss": 2.1,
}


@pytest.mark.parametrize(
    ("changes", "progress", "expected"),
    [
        ({}, 1.0, []),
        ({"token_perplexity": 2.9, "guessing_loss": 1.06, "loss": 0.5}, 0.1, ["the tokens have collapsed"]),
        ({"token_perplexity": 3.1, "guessing_loss": 1.13, "loss": 0.5}, 0.1, []),
        ({"predicted_perplexity": 1.2}, 0.9, ["the predictions have collapsed"]),
        ({"predicted_perplexity": 1.2}, 0.2, []),
        ({"level_guess_loss": 1.9}, 0.95, ["the training is still on its first plateau"]),
        ({"level_guess_loss": 1.9}, 0.8, []),
        ({"loss": 2.1}, 0.9, ["nothing is learnt"]),
        ({"loss": 2.1}, 0.2, []),
    ],
)
def test_warns_only_if_tokens_or_predictions_collapse_or_nothing_is_learnt(
    changes: dict[str, float], progress: float, expected: list[str]
) -> None:
    found = objective().warnings({**HEALTHY, **changes}, progress)
    assert [warning.partition(":")[0] for warning in found] == expected


def test_the_guessing_loss_includes_label_smoothing() -> None:
    """Smoothing raises the loss of the best guess above the entropy of the tokens."""
    made = objective(label_smoothing=0.2)
    tokens = torch.tensor([60, 20, 10, 5, 3, 1, 1, 0])
    share = 0.8 * tokens / tokens.sum() + 0.2 / CODES
    guessing = float(-(share * share.log()).sum())
    assert guessing > entropy(tokens) + 0.1
    figures = {**made.summarise({"tokens": tokens, "predictions": tokens}), "level_guess_loss": 9.0}
    assert made.warnings({**figures, "loss": guessing - 0.02}, 1.0) == []
    assert len(made.warnings({**figures, "loss": guessing + 0.02}, 1.0)) == 1


def test_clips_of_one_patch_have_no_loss() -> None:
    grid = Grid(1, BANDS)
    batch = PatchBatch(torch.randn(2, 4, PATCH_DIM), torch.arange(4).expand(2, 4) < 1, grid)
    output = objective()(batch)
    output.loss.backward()
    assert (output.loss.item(), output.count) == (0.0, 1)
    assert float(output.metrics["masked_accuracy"][1]) == 0


def test_bf16_gives_the_same_tokens_and_about_the_same_loss() -> None:
    made, batch = objective(), clips(6, 6)
    outputs = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs.append(made(batch))
    plain, half = outputs
    assert torch.equal(plain.histograms["tokens"], half.histograms["tokens"])
    assert half.loss.dtype == torch.float32
    assert half.loss.item() == pytest.approx(plain.loss.item(), rel=0.02)
