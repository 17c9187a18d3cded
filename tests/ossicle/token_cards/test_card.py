"""The report card from the user's side: command, page, JSON, section."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ossicle.cli import main
from ossicle.core.errors import ArtifactError, ConfigError, CorpusError, OssicleError
from ossicle.token_cards import measure_tokenizers, token_card_section
from ossicle.token_cards.card import CardOptions
from ossicle.token_cards.clip_tokens import ClipTokens
from ossicle.token_cards.clips import draw_clips
from ossicle.token_cards.listening import SAMPLE_RATE, choose, playable
from ossicle.token_cards.perturbations import PERTURBATIONS
from ossicle.token_cards.sources import corpus_of_runs, given_corpus, sources_in

MakeTokens = Callable[..., ClipTokens]
PROJECTION = {"type": "random_projection", "codebook_size": 32, "codebook_dim": 8}
FEW = [change for change in PERTURBATIONS if change.family in ("noise", "delay")][::3]


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of a run, written by the command."""
    out = tmp_path_factory.mktemp("card") / "made" / "card.html"
    assert main(["tokens", str(run), "--split", "train", "--clips", "10", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def figures(page: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.with_suffix(".json").read_text())
    return found


def test_a_run_gives_all_its_tokenizers_and_its_corpus(figures: dict[str, Any]) -> None:
    assert [one["name"] for one in figures["tokenizers"]] == ["iteration 1", "<b>2</b>", "untrained (control)"]
    assert [one["control"] for one in figures["tokenizers"]] == [False, False, True]
    assert (figures["corpus"], figures["split"], figures["clips"], figures["clips_in_split"]) == (
        "tones",
        "train",
        10,
        12,
    )
    assert len(set(figures["paths"])) == 10


def test_the_json_has_every_value(figures: dict[str, Any]) -> None:
    for one in figures["tokenizers"]:
        (stream,) = one["of_each_stream"]
        assert 1 <= stream["batch_perplexity"] <= stream["batch_used"] <= stream["statistics"]["used"] <= 32
        assert len(stream["band_entropy"]) == 2
        assert 0 < stream["purity"]["chance"] <= stream["purity"]["value"] <= 1
        assert [(kept["family"], kept["strength"]) for kept in one["stability"]] == [
            (change.family, change.strength) for change in PERTURBATIONS
        ]
        assert all(0 <= kept["low"] <= kept["kept"] <= kept["high"] <= 1 for kept in one["stability"])
        assert len(one["maps"]["tokens"]["points"]) == 10
        assert (one["maps"]["encoder"] is None) == one["control"]
        assert set(one["summary"]) >= {"perplexity", "label_information", "purity", "steadiness"}
    assert np.shape(figures["agreement"]) == (3, 3)


def test_stronger_noise_keeps_fewer_tokens(figures: dict[str, Any]) -> None:
    for one in figures["tokenizers"]:
        kept = [entry["kept"] for entry in one["stability"] if entry["family"] == "noise"]
        assert kept[0] > kept[-1]


def test_examples_carry_their_code_in_distinct_clips(figures: dict[str, Any], run: Path) -> None:
    import ossicle
    from ossicle.audio.decode import decode

    one = figures["tokenizers"][0]
    part = ossicle.load(one["path"])
    assert 1 <= len(one["codes"]) <= 6
    for code in one["codes"]:
        paths = [example["path"] for example in code["examples"]]
        assert len(set(paths)) == len(paths)
        for example in code["examples"]:
            wave = decode(corpus_of_runs([run]).config.path / example["path"], 16000)
            ids = part.tokenize(wave, sample_rate=16000).ids[0]
            assert ids[2 * example["column"] + example["band"]] == code["code"]
            assert example["start"] <= 0.16 * example["column"] < example["end"]


def test_the_page_plays_escapes_and_forbids_scripts(page: Path, figures: dict[str, Any]) -> None:
    text = page.read_text()
    assert "&lt;b&gt;2&lt;/b&gt;" in text
    assert "<b>2" not in text
    assert "<script" not in text
    assert "media-src data:" in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    assert "{{" not in text
    sounds = re.findall(r'<audio[^>]*src="data:audio/\w+;base64,([^"]+)"', text)
    examples = sum(len(code["examples"]) for one in figures["tokenizers"] for code in one["codes"])
    assert len(sounds) == examples > 0
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])))
    assert rate == SAMPLE_RATE
    assert 0.5 < len(wave) / rate < 2.2
    assert np.abs(wave).max() == pytest.approx(0.7, abs=0.15)


def test_the_terminal_shows_the_figures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "one.html"
    code = ["--code", "3", "--code", "5"]
    assert (
        main(["tokens", str(run / "../../one"), "--corpus", "synthetic", "--clips", "4", *code, "--out", str(out)]) == 0
    )
    printed = capsys.readouterr().out
    for text in ("token statistics", "noise", "20 dB", "4 of 16 valid clips of synthetic", str(out)):
        assert text in printed
    assert "agreement" not in printed
    heard = json.loads(out.with_suffix(".json").read_text())["tokenizers"][0]["codes"]
    assert {code["code"] for code in heard} <= {3, 5}


def test_the_same_seed_gives_the_same_figures(run: Path) -> None:
    options = CardOptions(clips=5, perturbations=FEW, listen=1)
    one, two = (measure_tokenizers([run / "../../one"], "synthetic", options).plain() for _ in range(2))
    assert one == two


def test_a_section_leaves_out_entries_without_a_tokenizer(store: Any, run: Path) -> None:
    bare = store.artifact("bare", tokenizer=None, encoder=True)
    tokenizers = {"first": run / "../../one", "control": run / "../../three", "rebuilt": bare}
    section = token_card_section(tokenizers, "{type: synthetic}", controls=["control"], clips=4, listen=1)
    assert section.title == "Tokenizers"
    assert "because they have no tokenizer: rebuilt" in section.html
    assert "control (control)" in section.html
    assert "<audio" in section.html
    assert "<html" not in section.html
    none = token_card_section({"rebuilt": bare}, "synthetic")
    assert "None of these encoders" in none.html


def test_tokenizers_with_other_front_ends_have_no_agreement(store: Any, run: Path) -> None:
    wide = store.artifact("wide", tokenizer={"type": "random_projection", "codebook_size": 32}, mel_bins=64)
    options = CardOptions(clips=4, perturbations=FEW)
    found = measure_tokenizers([run / "../../one", wide], "synthetic", options)
    assert [card.title for card in found.cards] == ["one", "wide"]
    assert found.agreement == [[1.0, None], [None, 1.0]]
    assert [card.bands for card in found.cards] == [2, 4]


@pytest.mark.slow
def test_streams_are_measured_separately_and_shown_by_their_mean(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = store.artifact("several", tokenizer={**PROJECTION, "codebooks": 3})
    out = tmp_path / "card.html"
    assert main(["tokens", str(several), "--corpus", "synthetic", "--clips", "4", "--out", str(out)]) == 0
    (one,) = json.loads(out.with_suffix(".json").read_text())["tokenizers"]
    perplexities = [stream["statistics"]["perplexity"] for stream in one["of_each_stream"]]
    assert len(set(perplexities)) == 3
    assert one["summary"]["perplexity"] == pytest.approx(np.mean(perplexities))
    assert "3 × 32" in capsys.readouterr().out
    assert "means over its streams" in out.read_text()


def test_a_released_tokenizer_has_a_card(golden: Path) -> None:
    options = CardOptions(clips=3, perturbations=FEW, listen=1)
    (card,) = measure_tokenizers([golden / "tokenizer.pt"], "synthetic", options).cards
    assert (card.title, card.codebook_size, card.bands, card.encoder_map) == ("tokenizer", 32, 8, None)


def test_names_are_unique(store: Any, run: Path, tones: Path) -> None:
    other = store.run("other", tones, {"iteration 1": run / "../../one"})
    assert list(sources_in([run, other])) == ["tried: iteration 1", "tried: <b>2</b>", "tried: untrained", "other"]
    again = store.folder / "elsewhere" / "one"
    again.mkdir(parents=True)
    assert list(sources_in([store.folder / "one", again])) == ["one", str(again)]


def test_the_test_split_is_only_used_if_given(tones: Path, tmp_path: Path) -> None:
    choice = given_corpus(str(tones))
    assert draw_clips(choice, clips=50, seed=0, sample_rates=[16000]).split == "valid"
    assert draw_clips(choice, clips=50, seed=0, sample_rates=[16000], split="test").split == "test"
    shutil.copytree(tones / "test", tmp_path / "test")
    (tmp_path / "train" / "low").mkdir(parents=True)
    shutil.copy(tones / "train" / "low" / "0.wav", tmp_path / "train" / "low")
    assert draw_clips(given_corpus(str(tmp_path)), clips=50, seed=0, sample_rates=[16000]).split == "train"
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(CorpusError, match=r"no clip in its split `valid`\. Allowed: test"):
        draw_clips(given_corpus(str(tmp_path)), clips=50, seed=0, sample_rates=[16000])


def test_an_unreadable_clip_is_replaced_and_named(tmp_path: Path) -> None:
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", np.full(4000, 0.1), 16000)
    (tmp_path / "2.wav").write_text("no sound")
    drawn = draw_clips(given_corpus(str(tmp_path)), clips=3, seed=0, sample_rates=[16000, 8000])
    assert len(drawn.manifest) == 3
    assert {len(wave) for wave in drawn.waves[8000]} == {2000}
    assert len(drawn.unreadable) <= 1
    for number in (0, 1, 3):
        (tmp_path / f"{number}.wav").unlink()
    with pytest.raises(CorpusError, match=r"none of the 1 `train` clips can be read; the first: .*2\.wav"):
        draw_clips(given_corpus(str(tmp_path)), clips=3, seed=0, sample_rates=[16000])


def test_invalid_requests_are_refused(run: Path, store: Any, tmp_path: Path) -> None:
    one = run / "../../one"
    steps: list[str] = []
    with pytest.raises(OssicleError, match="there is no corpus: no run is given"):
        measure_tokenizers([one])
    with pytest.raises(ConfigError, match=r"there is no corpus called `gm_nots`\. Did you mean `gm_notes`"):
        measure_tokenizers([one], "gm_nots")
    with pytest.raises(ArtifactError, match="contains no tokenizer; it contains an encoder"):
        measure_tokenizers([store.artifact("deaf", tokenizer=None, encoder=True)], "synthetic")
    with pytest.raises(OssicleError, match="there is no code 32: `one` has codes 0 to 31"):
        measure_tokenizers([one], "synthetic", CardOptions(codes=[3, 32]), on_step=steps.append)
    assert steps == []
    with pytest.raises(OssicleError, match="`seed` must be 0 or more, but is -1"):
        CardOptions(seed=-1)
    with pytest.raises(ArtifactError, match="`nowhere` does not exist; name a run, an artifact or a released checkp"):
        measure_tokenizers([Path("nowhere")])
    with pytest.raises(OssicleError, match="`clips` must be at least 1, but is 0"):
        CardOptions(clips=0)
    with pytest.raises(CorpusError, match=r"no clip in its split `unlabelled`\. Allowed: train, valid, test"):
        measure_tokenizers([run], options=CardOptions(split="unlabelled"))
    with pytest.raises(ArtifactError, match="a run without a tokenizer"):
        sources_in([store.run("empty", tmp_path, {})])


def test_only_the_corpus_of_an_older_run_is_read(run: Path, tmp_path: Path) -> None:
    experiment = tmp_path / "experiment.yaml"
    text = (run / "experiment.yaml").read_text()
    experiment.write_text(text.replace("pretrain: {", "plugins: [./gone.py]\npretrain: {older: 1, "))
    assert corpus_of_runs([tmp_path]) == corpus_of_runs([run])
    experiment.write_text(text.replace("labels: folders", "older: folders"))
    remedy = r"the corpus of .* is not known: name a corpus, `--corpus gm_notes`, or a folder"
    with pytest.raises(OssicleError, match=rf"unknown key `older`(.|\n)*{remedy}"):
        corpus_of_runs([tmp_path])
    experiment.write_text("name: older\n")
    with pytest.raises(OssicleError, match=rf"`corpus` is missing(.|\n)*{remedy}"):
        corpus_of_runs([tmp_path])


def test_codes_are_selected_by_use_and_by_information(tokens: MakeTokens) -> None:
    classes = np.arange(24) % 2
    ids = [[0] * 8 + [1] * 4 + [2 + one] * 2 for one in classes]
    assert [code for code, _ in choose(tokens(ids), classes, 4)] == [0, 1, 2, 3]
    assert [why for _, why in choose(tokens(ids), classes, 3)] == [
        "Number 1 by use",
        "Number 2 by use",
        "Among those with the most information about the class",
    ]
    assert [code for code, _ in choose(tokens(ids), None, 2)] == [0, 1]
    rare = [[7] * 20, [7] * 20, *([[0, 1]] * 10)]
    assert 7 not in [code for code, _ in choose(tokens(rare), None, 6)]


def test_sound_without_mp3_is_flac(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = np.sin(np.arange(8000) / 10).astype(np.float32)
    assert playable(wave, 16000).startswith("data:audio/mpeg;base64,")
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"FLAC": "", "WAV": ""})
    assert playable(wave, 16000).startswith("data:audio/flac;base64,")
