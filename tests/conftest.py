"""Fixtures that every room's tests may use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ossicle.core.catalog import declared


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the checkout."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of arrays made with the released implementation."""
    folder = Path(__file__).parents[1].parent / "shared" / "golden"
    if not folder.is_dir():
        pytest.skip(f"the golden arrays are not in {folder}")
    return folder


@pytest.fixture
def own_plugins() -> Iterator[None]:
    """Forget, after the test, the plugins that it brought into this process."""
    before, modules = list(declared), set(sys.modules)
    yield
    declared[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith(("ossicle_plugin_file_", "fake_")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips of about a second in the folders train, valid and test, each with the classes `low` and `high`."""
    folder = tmp_path_factory.mktemp("recordings") / "tones"
    draw = np.random.default_rng(0)
    for split, clips in (("train", 6), ("valid", 3), ("test", 3)):
        for label, hertz in (("low", 200), ("high", 2000)):
            (folder / split / label).mkdir(parents=True)
            for number in range(clips):
                time = np.arange(12800 + 800 * number) / 16000
                wave = 0.3 * np.sin(2 * np.pi * hertz * (1 + 0.1 * draw.random()) * time)
                noisy = (wave + 0.01 * draw.standard_normal(len(time))).astype(np.float32)
                soundfile.write(folder / split / label / f"{number}.wav", noisy, 16000)
    return folder


TINY = """\
name: tiny
corpus: {{type: folder, path: {tones}, labels: folders}}
front_end: {{type: kaldi_fbank, mel_bins: 32}}
encoder:
  {{type: beats, layers: 1, width: 32, feed_forward: 32, heads: 2, patch_width: 16, conv_position_kernel: 8,
   conv_position_groups: 4}}
schedule:
  type: beats
  iterations:
    - tokenizer: {{type: random_projection, codebook_size: 16, codebook_dim: 8}}
pretrain:
  steps: 6
  batch_seconds: 4
  warmup_steps: 1
  log_every: 2
  checkpoint_every: 2
  threads: 1
  objective: {{type: masked_prediction, predictor: {{layers: 1, heads: 2}}}}
evaluate: [linear_probe, knn_probe]
"""


@pytest.fixture
def tiny(tones: Path, tmp_path: Path) -> Path:
    """The YAML of an experiment that takes seconds: a one-layer encoder on `tones`, with both probes."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.format(tones=tones))
    return path
