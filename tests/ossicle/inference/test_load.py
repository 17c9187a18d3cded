"""Trained and released parts from Python, on waveforms of any kind, one clip or many."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from forked import Program

import ossicle
from ossicle.cli import main
from ossicle.core.catalog import Origin
from ossicle.core.errors import ArtifactError, OssicleError
from ossicle.inference.load import LoadedPart, _unchanged_plugins

RATE = 16000

EXPERIMENT = """
name: small
corpus: {type: folder, path: ./recordings}
front_end: {type: kaldi_fbank, mel_bins: 64}
encoder: {type: beats, size: tiny, layers: 2, width: 32, heads: 2, feed_forward: 64}
schedule:
  type: beats
  iterations: [{tokenizer: {type: random_projection, codebook_size: 16, codebook_dim: 8}}]
pretrain:
  {steps: 2, batch_seconds: 4, log_every: 1, checkpoint_every: 1,
    objective: {type: masked_prediction, predictor: {layers: 1}}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("inference")
    rng = np.random.default_rng(0)
    (home / "recordings").mkdir()
    for number in range(4):
        soundfile.write(home / "recordings" / f"{number}.wav", rng.uniform(-0.5, 0.5, RATE), RATE)
    (home / "experiment.yaml").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ossicle.experiment.run.write_report", lambda *_: None)
        assert main(["run", str(home / "experiment.yaml"), "--out", str(home / "runs")]) == 0
    return home / "runs"


def artifact(runs: Path, kind: str) -> Path:
    (folder,) = (runs / ".store").glob(f"{kind}-*")
    return folder


@pytest.fixture(scope="module")
def model(runs: Path) -> LoadedPart:
    return ossicle.load(runs / "small")


@pytest.fixture(scope="module")
def released(shared_golden: Path) -> dict[str, LoadedPart]:
    return {name: ossicle.load(shared_golden / f"{name}.pt") for name in ("deepnorm", "finetuned")}


@pytest.fixture(scope="module")
def shared_golden() -> Path:
    folder = Path(__file__).parents[3].parent / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"the golden arrays are not in {folder}")
    return folder


def sound(samples: int, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * time) + 0.05 * rng.normal(size=samples)).astype(np.float32)


def test_a_pretrained_artifact_embeds_and_tokenizes(runs: Path, model: LoadedPart) -> None:
    direct = ossicle.load(artifact(runs, "pretrain"))
    assert direct.path.resolve() == model.path
    wave = sound(RATE)
    one, two = (loaded.embed(wave, sample_rate=RATE) for loaded in (direct, model))
    assert torch.equal(one.clip, two.clip)

    found = model.embed(wave, sample_rate=RATE, layers=True)
    columns, bands = 6, 4  # 98 frames of 64 bins
    assert found.clip.shape == (1, 32)
    assert found.sequence.shape == (1, columns * bands, 32)
    assert found.frames.shape == (1, columns, 32)
    assert found.times.shape == (columns, 2)
    assert [tuple(layer.shape) for layer in found.layers] == [(1, columns * bands, 32)] * 3
    assert found.valid.all()
    assert found.frames_valid.all()
    torch.testing.assert_close(found.frames[0, 2], found.sequence[0, 8:12].mean(0))
    torch.testing.assert_close(found.clip[0], found.sequence[0].mean(0))
    assert found.times[0].tolist() == pytest.approx([0.0, 0.175])
    assert found.times[1].tolist() == pytest.approx([0.16, 0.335])
    assert model.embed(wave, sample_rate=RATE).layers == ()

    tokens = model.tokenize(wave, sample_rate=RATE)
    assert tokens.ids.shape == tokens.valid.shape == (1, columns * bands)
    assert tokens.codebook_size == 16
    assert tokens.bands.shape == (bands, 2)
    assert (tokens.bands[:, 1] > tokens.bands[:, 0]).all()
    assert torch.equal(tokens.times, found.times)


def test_a_tokenizer_artifact_gives_the_tokens_that_the_encoder_was_trained_on(runs: Path, model: LoadedPart) -> None:
    tokenizer = ossicle.load(artifact(runs, "tokenizer"))
    wave = sound(RATE)
    assert torch.equal(tokenizer.tokenize(wave, sample_rate=RATE).ids, model.tokenize(wave, sample_rate=RATE).ids)
    with pytest.raises(ArtifactError, match="holds no encoder; it holds: tokenizer"):
        tokenizer.embed(wave, sample_rate=RATE)


def test_untrained_encoders_and_surveys_have_no_tokenizer(runs: Path) -> None:
    untrained = ossicle.load(artifact(runs, "encoder"))
    assert untrained.embed(sound(RATE), sample_rate=RATE).clip.isfinite().all()
    with pytest.raises(ArtifactError, match="holds no tokenizer; it holds: encoder"):
        untrained.tokenize(sound(RATE), sample_rate=RATE)
    with pytest.raises(ArtifactError, match="holds no classifier; it holds: encoder"):
        untrained.classify(sound(RATE), sample_rate=RATE)
    with pytest.raises(ArtifactError, match="holds no encoder; it holds: only a front end"):
        ossicle.load(artifact(runs, "survey")).embed(sound(RATE), sample_rate=RATE)


def test_paths_without_an_artifact_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(ArtifactError, match="is not a checkpoint"):
        ossicle.load(tmp_path / "text.pt")
    with pytest.raises(ArtifactError, match=r"is not an artifact: it holds no card\.json"):
        ossicle.load(tmp_path)
    with pytest.raises(ArtifactError, match="nowhere` does not exist"):
        ossicle.load(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text('{"stages": []}')
    with pytest.raises(ArtifactError, match="a run without a pre-trained encoder"):
        ossicle.load(tmp_path)


@pytest.mark.parametrize("name", ["deepnorm", "finetuned"])
def test_released_checkpoints_embed(released: dict[str, LoadedPart], name: str) -> None:
    found = released[name].embed(sound(2 * RATE), sample_rate=RATE)
    assert found.sequence.shape[1] == 12 * 8
    assert found.clip.isfinite().all()
    with pytest.raises(ArtifactError, match="holds no tokenizer"):
        released[name].tokenize(sound(RATE), sample_rate=RATE)


def test_a_released_classifier_repeats_the_stored_probabilities(
    released: dict[str, LoadedPart], shared_golden: Path
) -> None:
    model = released["finetuned"]
    with np.load(shared_golden / "finetuned.npz", allow_pickle=False) as stored:
        waveform, expected = stored["full/wave_i16"], torch.from_numpy(stored["full/probs"])
    found = model.classify(waveform, sample_rate=RATE)
    assert found.probabilities.shape == expected.shape
    assert len(found.labels) in (0, expected.shape[1])
    torch.testing.assert_close(found.probabilities, expected, atol=2e-4, rtol=0)
    with pytest.raises(ArtifactError, match="holds no classifier"):
        released["deepnorm"].classify(waveform, sample_rate=RATE)


def test_a_released_tokenizer_tokenizes(shared_golden: Path) -> None:
    tokenizer = ossicle.load(shared_golden / "tokenizer.pt")
    with np.load(shared_golden / "tokenizer.npz", allow_pickle=False) as stored:
        waveform, expected, margin = (stored[f"full/{name}"] for name in ("wave_i16", "tokens", "token_margin"))
    found = tokenizer.tokenize(waveform, sample_rate=RATE)
    assert found.codebook_size == 32
    assert found.valid.all()
    clear = margin > 1e-3
    assert np.array_equal(found.ids.flatten().numpy()[clear], expected[clear])
    single = tokenizer.tokenize(waveform[1], sample_rate=RATE)
    assert torch.equal(single.ids[0], found.ids[1])
    with pytest.raises(ArtifactError, match="holds no encoder; it holds: tokenizer"):
        tokenizer.embed(waveform, sample_rate=RATE)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("which", ["own", "deepnorm", "finetuned"])
def test_a_single_clip_equals_the_clip_in_a_padded_batch(
    model: LoadedPart, request: pytest.FixtureRequest, which: str, rate: int
) -> None:
    part = model if which == "own" else request.getfixturevalue("released")[which]
    lengths = [rate // 20, rate // 3, rate, 2 * rate + 17, 0]
    batched = np.zeros((5, 2 * rate + 17), np.float32)
    for row, length in enumerate(lengths):
        batched[row, :length] = sound(length, seed=row)

    batch = part.embed(batched, sample_rate=rate, lengths=lengths)

    assert batch.clip.isfinite().all()
    for row, length in enumerate(lengths):
        single = part.embed(batched[row, :length], sample_rate=rate)
        torch.testing.assert_close(batch.clip[row], single.clip[0], atol=1e-5, rtol=0)
        count = int(batch.valid[row].sum())
        assert count == single.valid.sum()
        torch.testing.assert_close(batch.sequence[row, :count], single.sequence[0, :count], atol=1e-5, rtol=0)
        columns = int(batch.frames_valid[row].sum())
        torch.testing.assert_close(batch.frames[row, :columns], single.frames[0, :columns], atol=1e-5, rtol=0)
    if which == "own":
        ids = part.tokenize(batched, sample_rate=rate, lengths=torch.tensor(lengths))
        single_ids = part.tokenize(batched[2, :rate], sample_rate=rate).ids[0]
        assert torch.equal(ids.ids[2, : len(single_ids)], single_ids)
    if which == "finetuned":
        classes = part.classify(batched, sample_rate=rate, lengths=lengths).probabilities
        one = part.classify(batched[2, :rate], sample_rate=rate).probabilities
        torch.testing.assert_close(classes[2], one[0], atol=1e-5, rtol=0)


def test_samples_beyond_the_length_of_a_clip_have_no_effect(model: LoadedPart) -> None:
    padded = np.full((1, 2 * RATE), np.nan, np.float32)
    padded[0, :RATE] = sound(RATE)
    found = model.embed(padded, sample_rate=RATE, lengths=[RATE])
    assert torch.equal(found.clip, model.embed(padded[0, :RATE], sample_rate=RATE).clip)


def test_every_kind_of_array_is_the_same_sound(model: LoadedPart) -> None:
    whole = np.round(sound(RATE) * 32768).astype(np.int16)
    wave = whole / np.float32(32768)
    expected = model.embed(wave, sample_rate=RATE).clip
    for given in (
        whole,
        torch.from_numpy(whole),
        whole.astype(np.int32) << 16,
        wave.astype(np.float64),
        torch.from_numpy(wave),
        torch.from_numpy(wave).requires_grad_(),
        torch.from_numpy(wave)[None],
        wave[None],
        np.stack([wave, wave], axis=1)[:, 0],
    ):
        torch.testing.assert_close(model.embed(given, sample_rate=RATE).clip, expected, atol=1e-5, rtol=0)
    half = model.embed(torch.from_numpy(wave).bfloat16(), sample_rate=RATE).clip
    torch.testing.assert_close(half, expected, atol=0.1, rtol=0)


def test_other_rates_are_resampled(model: LoadedPart) -> None:
    low = sound(RATE)
    high = soxr.resample(low, RATE, 48000, quality="VHQ")
    given, expected = model.embed(high, sample_rate=48000), model.embed(low, sample_rate=RATE)
    assert given.sequence.shape == expected.sequence.shape
    similarity = torch.cosine_similarity(given.sequence[0], expected.sequence[0], dim=-1).view(-1, 4)
    assert similarity[:, :3].min() > 0.99  # the cutoff of the resampler is in the highest band


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 2799, 2800])
def test_very_short_clips_have_one_column(model: LoadedPart, samples: int) -> None:
    found = model.embed(sound(samples), sample_rate=RATE)
    assert found.clip.shape == (1, 32)
    assert found.clip.isfinite().all()
    assert found.valid.tolist() == [[True] * 4]


@pytest.mark.parametrize(
    ("waveform", "options", "message"),
    [
        (np.zeros((2, 3, 4)), {}, r"must be \(samples,\) or \(clips, samples\), but is \(2, 3, 4\)"),
        (np.zeros(()), {}, r"but is \(\)"),
        (np.zeros((0, 5)), {}, "holds no clips"),
        (np.array([0.0, np.nan]), {}, "not finite"),
        (np.array([0.0, np.inf]), {}, "not finite"),
        (np.zeros((2, 9)), {"lengths": [9]}, r"must hold 2 whole numbers between 0 and 9, but holds \[9\]"),
        (np.zeros((2, 9)), {"lengths": [3, 10]}, r"holds \[3, 10\]"),
        (np.zeros((2, 9)), {"lengths": [-1, 3]}, r"holds \[-1, 3\]"),
        (np.zeros((2, 9)), {"lengths": [2.5, 3]}, r"holds \[2\.5, 3\.0\]"),
        (np.zeros(9), {"sample_rate": 0}, "`sample_rate` must be positive, in Hz, but is 0"),
        (np.zeros(9, np.uint8), {}, "must be floats in .* or signed integers, but is uint8"),
        (np.array(["a"]), {}, "but is <U1"),
    ],
)
def test_invalid_input_is_refused(model: LoadedPart, waveform: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OssicleError, match=message):
        model.embed(waveform, **{"sample_rate": RATE, **options})


@pytest.mark.parametrize("rate", [RATE, 22050])
def test_a_long_clip_in_windows_agrees_with_the_whole(model: LoadedPart, rate: int) -> None:
    wave = sound(47 * rate + 123)
    whole = model.embed(wave, sample_rate=rate, layers=True, window_seconds=math.inf)
    found = model.embed(wave, sample_rate=rate, layers=True, window_seconds=10.0, overlap_seconds=2.0)
    for name in ("sequence", "frames", "clip", "valid", "frames_valid"):
        assert getattr(found, name).shape == getattr(whole, name).shape
    assert [layer.shape for layer in found.layers] == [layer.shape for layer in whole.layers]
    torch.testing.assert_close(found.times, whole.times)
    torch.testing.assert_close(found.clip[0], found.sequence[0].mean(0), atol=1e-5, rtol=0)
    assert torch.equal(found.layers[-1], found.sequence)
    assert torch.cosine_similarity(found.frames[0], whole.frames[0], dim=-1).min() > 0.97
    # These tokens depend only on the patch, which is the same in every window.
    expected = model.tokenize(wave, sample_rate=rate, window_seconds=math.inf)
    tokens = model.tokenize(wave, sample_rate=rate, window_seconds=10.0, overlap_seconds=2.0)
    assert torch.equal(tokens.ids, expected.ids)
    torch.testing.assert_close(tokens.times, expected.times)


def test_a_clip_of_one_window_equals_the_clip_without_windows(model: LoadedPart) -> None:
    wave = sound(10 * 44100)
    expected = model.embed(wave, sample_rate=44100, window_seconds=math.inf)
    found = model.embed(wave, sample_rate=44100, window_seconds=10.0, overlap_seconds=2.0)
    assert torch.equal(found.sequence, expected.sequence)
    assert torch.equal(found.clip, expected.clip)
    with pytest.raises(OssicleError, match="`overlap_seconds` must be at least 0"):
        model.embed(wave, sample_rate=44100, window_seconds=5.0, overlap_seconds=6.0)


def test_a_batch_of_long_and_short_clips_equals_the_single_clips(model: LoadedPart) -> None:
    lengths = [25 * RATE, 3 * RATE]
    batch = model.embed(np.stack([sound(25 * RATE)] * 2), sample_rate=RATE, lengths=lengths, window_seconds=10.0)
    for row, length in enumerate(lengths):
        single = model.embed(sound(25 * RATE)[:length], sample_rate=RATE, window_seconds=10.0)
        count = int(batch.valid[row].sum())
        assert count == single.valid.sum()
        torch.testing.assert_close(batch.sequence[row, :count], single.sequence[0])
        torch.testing.assert_close(batch.clip[row], single.clip[0])


def test_a_linear_classifier_of_windows_agrees_with_the_whole(released: dict[str, LoadedPart]) -> None:
    wave = sound(14 * RATE)
    whole = released["finetuned"].classify(wave, sample_rate=RATE, window_seconds=math.inf).probabilities
    found = released["finetuned"].classify(wave, sample_rate=RATE, window_seconds=6.0, overlap_seconds=2.0)
    assert found.probabilities.shape == whole.shape
    torch.testing.assert_close(found.probabilities, whole, atol=0.05, rtol=0)


def peak_mib_of_embedding(program: Program, run: Path, minutes: int, folder: Path) -> float:
    """Measure the peak memory of `ossicle embed` on a recording of some minutes, in MiB."""
    recording, minute_of_sound = folder / f"{minutes}.wav", sound(60 * RATE)
    with soundfile.SoundFile(recording, "w", RATE, 1) as file:
        for _ in range(minutes):
            file.write(minute_of_sound)
    out = folder / f"{minutes}.npz"
    script = folder / "embed.py"
    script.write_text(
        "import resource, sys; from ossicle.cli import main; code = main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(code)"
    )
    shown = program("embed", run, recording, "--out", out, cwd=folder, script=script)
    assert shown.returncode == 0, shown.stderr
    with np.load(out) as made:
        assert len(made["embedding"]) == (minutes * 60 * 100 - 2) // 16
    return float(shown.stdout.splitlines()[-1])


def test_an_hour_needs_no_more_memory_than_ten_minutes(runs: Path, tmp_path: Path, program: Program) -> None:
    short, long = (peak_mib_of_embedding(program, runs / "small", minutes, tmp_path) for minutes in (10, 60))
    assert long - short < 50


def test_only_an_unchanged_plugin_file_runs_automatically(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("import ossicle\n")
    entry = {"plugin": str(plugin), "origin": Origin.of_file(plugin).describe()}
    assert _unchanged_plugins([entry]) == [plugin]
    plugin.write_text("import ossicle, os\n")
    assert _unchanged_plugins([entry]) == []
    plugin.unlink()
    assert _unchanged_plugins([entry]) == []
