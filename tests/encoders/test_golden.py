"""The encoder compared with arrays of the released implementation (`shared/golden/README.md`)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.checkpoints.contents import encoder_of, head_of
from ossicle.checkpoints.microsoft import Released, convert_released, read_released
from ossicle.checkpoints.names import weight_names
from ossicle.core.data import AudioBatch, Grid, PatchBatch
from ossicle.core.plugin_loading import load_plugins
from ossicle.encoders.beats import Beats

CASES = ["deepnorm", "deepnorm_b320", "glu", "postnorm_relonly", "prenorm", "finetuned", "tokenizer"]
RUNS = ["full", "padded"]
CATALOG = load_plugins().catalog


class Case:
    """One golden model with the arrays of one of its runs."""

    def __init__(self, folder: Path, name: str, run: str) -> None:
        self.arrays = np.load(folder / f"{name}.npz", allow_pickle=False)
        self.run = run

    def __contains__(self, key: str) -> bool:
        return f"{self.run}/{key}" in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[f"{self.run}/{key}"])

    def audio(self) -> AudioBatch:
        return AudioBatch(self["wave_i16"].float() / 32768, self["lengths"])

    def patches(self, released: Released) -> PatchBatch:
        """Cut the stored filter banks into patches, with the mask of the released code."""
        batch = front_end(released)(self.audio())
        columns = batch.grid.columns
        cells = self["fbank"][:, : columns * 16].unflatten(1, (columns, 16)).unflatten(3, (8, 16))
        return PatchBatch(cells.transpose(2, 3).flatten(3).flatten(1, 2), batch.valid, Grid(columns, 8))


def front_end(released: Released) -> KaldiFbank:
    return KaldiFbank(released.front_end.model_copy(update={"padding": "released"}))


def encoder(released: Released) -> Beats:
    """Build the encoder of any checkpoint, also the one inside a tokenizer."""
    built = encoder_of(replace(released, kind="encoder"), CATALOG)
    assert isinstance(built, Beats)
    return built


def test_every_golden_file_is_tested(golden: Path):
    # `quantizer_ema` is tested in tests/tokenizers/test_golden.py, and all filter banks in
    # tests/audio/test_kaldi_fbank.py.
    tested = {*CASES, "basewidth", "quantizer_ema"}
    assert {path.name.split(".")[0] for path in golden.glob("*.npz")} == tested


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", CASES)
def test_patch_embeddings(golden: Path, name: str, run: str):
    case, released = Case(golden, name, run), read_released(golden / f"{name}.pt")
    stem, patches = encoder(released).stem, case.patches(released).patches
    with torch.no_grad():
        embedded = stem.embed(patches)
        torch.testing.assert_close(stem.norm(embedded), case["patch_embeddings"], atol=1e-4, rtol=1e-4)
    if "patch_conv" in case:
        expected = case["patch_conv"].flatten(2).transpose(1, 2)
        torch.testing.assert_close(embedded, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", CASES)
def test_features_and_layers(golden: Path, name: str, run: str):
    case, released = Case(golden, name, run), read_released(golden / f"{name}.pt")
    with torch.no_grad():
        encoded = encoder(released)(case.patches(released), layers=True)
    assert len(encoded.layers) == released.config.shape.layers + 1
    for index, layer in enumerate(encoded.layers[1:]):
        if f"layer_{index}" in case:
            torch.testing.assert_close(layer, case[f"layer_{index}"], atol=1e-4, rtol=1e-4)
    if "layer_in" in case:
        torch.testing.assert_close(encoded.layers[0], case["layer_in"], atol=1e-4, rtol=1e-4)
    if "features" in case:
        torch.testing.assert_close(encoded.sequence, case["features"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", [name for name in CASES if name != "finetuned"])
def test_features_from_the_waveform(golden: Path, name: str, run: str):
    case, released = Case(golden, name, run), read_released(golden / f"{name}.pt")
    with torch.no_grad():
        encoded = encoder(released)(front_end(released)(case.audio()))
    torch.testing.assert_close(encoded.sequence, case["features"], atol=2e-3, rtol=0)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("name", CASES)
def test_position_embedding(golden: Path, name: str, run: str):
    case, released = Case(golden, name, run), read_released(golden / f"{name}.pt")
    batch, beats = case.patches(released), encoder(released)
    with torch.no_grad():
        stem = beats.stem(batch.patches)
        if "post_extract_proj" in case:
            torch.testing.assert_close(stem, case["post_extract_proj"], atol=1e-4, rtol=1e-4)
        embedding = beats.conv_position(stem.masked_fill(~batch.valid[..., None], 0.0))
    torch.testing.assert_close(embedding.transpose(1, 2), case["pos_conv"], atol=1e-4, rtol=1e-4)


def test_position_bias(golden: Path):
    bias = encoder(read_released(golden / "deepnorm.pt")).stack.bias
    expected = Case(golden, "deepnorm", "padded")["position_bias"]
    assert bias is not None
    assert torch.equal(bias(80), expected)
    assert torch.equal(bias(80, torch.arange(80)[None])[0], expected)


@pytest.mark.parametrize("name", ["deepnorm", "deepnorm_b320", "prenorm"])
def test_gradient_norms(golden: Path, name: str):
    case, released = Case(golden, name, "full"), read_released(golden / f"{name}.pt")
    beats = encoder(released)
    sequence = beats(case.patches(released)).sequence
    target = np.random.RandomState(7).standard_normal(sequence.shape).astype(np.float32)
    loss = (sequence * torch.from_numpy(target)).sum()
    loss.backward()
    assert loss.item() == pytest.approx(float(case.arrays["grad/loss"]), abs=1e-3)
    parameters, names = dict(beats.named_parameters()), weight_names(released.config)
    for theirs, norm in zip(case.arrays["grad/names"].tolist(), case.arrays["grad/norms"].tolist(), strict=True):
        gradient = parameters[names[theirs]].grad
        assert gradient is not None
        # A key's bias shifts all logits of a query alike, so its gradient is zero except for rounding.
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-3, abs=5e-5), theirs


@pytest.mark.parametrize("run", RUNS)
def test_probabilities_of_a_fine_tuned_encoder(golden: Path, run: str):
    case, released = Case(golden, "finetuned", run), read_released(golden / "finetuned.pt")
    assert released.kind == "fine_tuned"
    with torch.no_grad():
        logits = head_of(released, CATALOG)(encoder(released)(case.patches(released)))
    torch.testing.assert_close(logits.sigmoid(), case["probs"], atol=1e-5, rtol=0)


def base_width_weights(keys: list[str], shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    weights = {}
    shared = "encoder.layers.0.self_attn.relative_attention_bias.weight"
    for number, key in enumerate(keys):
        number = keys.index(shared) if key.endswith("relative_attention_bias.weight") else number
        z = np.random.RandomState(seed * 1000 + number).standard_normal(shapes[key])
        if key.endswith("grep_a"):
            z = 1 + 0.3 * z
        elif "layer_norm" in key:
            z = 1 + 0.1 * z if key.endswith("weight") else 0.1 * z
        elif key.endswith("relative_attention_bias.weight"):
            z = 0.8 * z
        elif key.endswith("weight_g"):
            z = abs(1 + 0.2 * z) * 1.5
        elif key.endswith(".bias"):
            z = 0.1 * z
        elif key.endswith("grep_linear.weight"):
            z = 0.3 * z
        else:
            gain = 1.5 if key.endswith(("q_proj.weight", "k_proj.weight")) else 1.0
            z = gain * z / math.sqrt(np.prod(shapes[key][1:]))
        weights[key] = torch.from_numpy(z.astype(np.float32))
    return weights


def released_shapes(keys: list[str], encoder: Beats) -> dict[str, tuple[int, ...]]:
    ours = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    names = weight_names(encoder.config)
    shapes = {key: ours[names[key]] for key in keys}
    shapes["patch_embedding.weight"] = (encoder.config.shape.patch_width, 1, 16, 16)
    return {key: (1, *shape, 1, 1) if key.endswith("grep_a") else shape for key, shape in shapes.items()}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_base_width(golden: Path, run: str):
    case = Case(golden, "basewidth", run)
    cfg = torch.load(golden / "basewidth.cfg.pt", weights_only=True)["cfg"]
    keys = case.arrays["weights/keys"].tolist()
    blank = Beats(convert_released({"cfg": cfg, "model": {}}).config, 256, 8)
    weights = base_width_weights(keys, released_shapes(keys, blank), int(case.arrays["weights/seed"]))
    sums = [float(weights[key].double().sum()) for key in keys]
    np.testing.assert_allclose(sums, case.arrays["weights/sum"], rtol=1e-6, atol=1e-6)

    released = convert_released({"cfg": cfg, "model": weights})
    with torch.no_grad():
        encoded = encoder(released)(case.patches(released))
    torch.testing.assert_close(encoded.sequence, case["features"], atol=1e-4, rtol=1e-4)
