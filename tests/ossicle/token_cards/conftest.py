"""Tokenizers as artifacts and as a run, made without training, on the recordings of `tones`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.interfaces import Encoder, FrontEnd, Tokenizer
from ossicle.core.manifest import Manifest
from ossicle.core.parts import save_part
from ossicle.core.plugin_loading import load_plugins
from ossicle.token_cards.clip_tokens import ClipTokens
from ossicle.token_cards.clips import DrawnClips

RATE = 16000
TINY_ENCODER = {"size": "tiny", "layers": 1, "width": 32, "heads": 2, "feed_forward": 32}
EXPERIMENT = """
name: {name}
corpus: {{type: folder, path: {tones}, labels: folders}}
front_end: {{type: kaldi_fbank, mel_bins: 32}}
encoder: {{type: beats, size: tiny}}
schedule: {{type: single, tokenizer: {{type: random_projection}}}}
pretrain: {{steps: 1, objective: masked_prediction}}
"""


class Store:
    """Makes artifacts with a front end and optionally a tokenizer and an encoder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalog = load_plugins().catalog

    def artifact(
        self, name: str, *, tokenizer: dict[str, Any] | None, encoder: bool = False, mel_bins: int = 32, seed: int = 0
    ) -> Path:
        path = self.folder / name
        path.mkdir(parents=True)
        front_end = build(self._choice("front_end", "kaldi_fbank", mel_bins=mel_bins), FrontEnd)
        front_end.set_statistics(torch.full((mel_bins,), 6.0), torch.full((mel_bins,), 4.0))
        made: dict[str, nn.Module] = {"front_end": front_end}
        offers = {"patch_dim": front_end.patch_dim, "bands": front_end.bands, "seed": seed}
        if tokenizer is not None:
            settings = {key: value for key, value in tokenizer.items() if key != "type"}
            made["tokenizer"] = build(self._choice("tokenizer", tokenizer["type"], **settings), Tokenizer, **offers)
        if encoder:
            made["encoder"] = build(self._choice("encoder", "plain_vit", **TINY_ENCODER), Encoder, **offers)
        parts = {role: save_part(path, role, module) for role, module in made.items()}
        (path / "card.json").write_text(json.dumps({"kind": "pretrain", "parts": parts, "metrics": {}}))
        return path

    def _choice(self, kind: str, name: str, **settings: Any) -> PartChoice:
        return PartChoice.of(self.catalog.get(kind, name), settings, catalog=self.catalog)

    def run(self, name: str, tones: Path, stages: dict[str, Path], *, control: str = "") -> Path:
        """Make a run with a pre-trained encoder for each of `stages`."""
        folder = self.folder / "runs" / name
        folder.mkdir(parents=True)
        entries = [
            {
                "name": f"{subject}/pretrain",
                "kind": "pretrain",
                "artifact": str(path),
                "flags": ["makes_encoder"],
                "tags": {"subject": subject, "control": subject == control},
            }
            for subject, path in stages.items()
        ]
        (folder / "run.json").write_text(json.dumps({"name": name, "stages": entries}))
        (folder / "experiment.yaml").write_text(EXPERIMENT.format(name=name, tones=tones))
        return folder


PROJECTION = {"type": "random_projection", "codebook_size": 32, "codebook_dim": 8}


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a temporary cache for corpora that are rendered on first use."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OSSICLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("tokenizers"))


@pytest.fixture(scope="session")
def run(store: Store, tones: Path, slow: None) -> Path:
    """A run with two iterations, each with an encoder, and a control."""
    stages = {
        "iteration 1": store.artifact("one", tokenizer=PROJECTION, encoder=True),
        "<b>2</b>": store.artifact("two", tokenizer={**PROJECTION, "codebook_size": 16}, encoder=True, seed=1),
        "untrained": store.artifact("three", tokenizer=PROJECTION, seed=2),
    }
    return store.run("tried", tones, stages, control="untrained")


@pytest.fixture(scope="session")
def tokens() -> Callable[..., ClipTokens]:
    """A function that makes tokens of clips from lists of numbers, or from (N, G) arrays."""

    def make(ids: Sequence[Any], bands: int = 2, codebook_size: int = 64) -> ClipTokens:
        arrays = [np.asarray(clip, dtype=np.int64) for clip in ids]
        return ClipTokens([clip.reshape(len(clip), -1) for clip in arrays], bands, codebook_size)

    return make


@pytest.fixture(scope="session")
def drawn() -> Callable[..., DrawnClips]:
    """A function that makes clips with one second of noise and the given classes."""

    def make(classes: Sequence[int], *, multi_label: bool = False) -> DrawnClips:
        clips = len(classes)
        manifest = Manifest(
            Path(),
            np.array([f"{number}.wav" for number in range(clips)]),
            np.full(clips, RATE, dtype=np.int64),
            np.full(clips, RATE, dtype=np.int32),
            np.full(clips, "valid"),
            [(number,) for number in classes],
            tuple("abcdefgh"),
            multi_label=multi_label,
        )
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (clips, RATE)).astype(np.float32)
        return DrawnClips("made", "valid", clips, manifest, {RATE: list(noise)})

    return make
