"""`spoken_words`: every word by every voice, each voice in one split, and reproducible samples."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.audio.corpora.espeak import voice_variants
from ossicle.audio.corpora.spoken_words import ACCENTS, SpokenWordsCorpus, choose_voices
from ossicle.audio.corpus_config import SpokenWordsConfig

TINY = SpokenWordsConfig(words=4, voices=12)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="eSpeak NG is in the wheel of espeakng-loader"
)


@pytest.fixture(scope="module")
def rendered_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSSICLE_CACHE", str(cache))
        SpokenWordsCorpus(TINY).prepare()
    return cache


@pytest.fixture
def corpus(rendered_cache: Path, monkeypatch: pytest.MonkeyPatch) -> SpokenWordsCorpus:
    monkeypatch.setenv("OSSICLE_CACHE", str(rendered_cache))
    return SpokenWordsCorpus(TINY)


def test_has_every_word_by_every_voice_and_each_voice_in_one_split(corpus: SpokenWordsCorpus) -> None:
    manifest, voices = corpus.manifest(), corpus.contents()

    assert manifest.label_names == ("yes", "no", "up", "down")
    assert len({(label, voice) for (label,), voice in zip(manifest.labels, voices, strict=True)}) == 4 * 12
    splits_of_voices = set(zip(voices, manifest.splits.tolist(), strict=True))
    assert len(splits_of_voices) == 12
    assert Counter(split for _, split in splits_of_voices) == {"train": 7, "valid": 2, "test": 3}


def test_the_whole_set_has_92_voices_with_every_accent_in_every_split() -> None:
    voices = choose_voices(voice_variants(), 92)

    assert len(voice_variants()) == 92
    assert Counter(voice.split for voice in voices) == {"train": 56, "valid": 12, "test": 24}
    assert len({voice.variant for voice in voices}) == 92
    for split in ("train", "valid", "test"):
        accents = Counter(voice.accent for voice in voices if voice.split == split)
        assert accents.keys() == set(ACCENTS)
        assert max(accents.values()) - min(accents.values()) <= 1


def test_every_clip_sounds_for_one_second_and_never_clips(corpus: SpokenWordsCorpus) -> None:
    manifest = corpus.manifest()
    for row in range(len(manifest)):
        samples, sample_rate = soundfile.read(manifest.path(row), dtype="float64")
        assert (samples.shape, sample_rate) == ((16000,), 16000)
        assert 0.01 < np.abs(samples).max() < 0.99


@pytest.mark.slow
def test_rendering_again_gives_the_same_samples(
    corpus: SpokenWordsCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = corpus.manifest()
    monkeypatch.setenv("OSSICLE_CACHE", str(tmp_path))

    again = SpokenWordsCorpus(TINY).manifest()

    assert again.root != first.root
    assert again.fingerprint() == first.fingerprint()


def test_the_card_names_source_and_licence(corpus: SpokenWordsCorpus) -> None:
    assert "eSpeak NG" in corpus.card()["source"]
    assert "GPL-3" in corpus.card()["license"]
