"""A catalog of small parts under the names of real ones, so the core is tested without the other folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self

import pytest
from pydantic import Field, model_validator

from ossicle.core.catalog import Catalog, Origin
from ossicle.core.choices import CorpusChoice, TokenizerChoice
from ossicle.core.config import Config, TokenizerConfig
from ossicle.core.part_kinds import ossicle_register_part_kinds
from ossicle.core.plugin_loading import import_file


class GmNotes(Config):
    """Notes."""

    unlabelled: int = Field(1024, ge=0)


class Folder(Config):
    """A folder."""

    path: Path = Path("recordings")
    """The path of the folder."""


class KaldiFbank(Config):
    """Filter banks."""

    mel_bins: int = Field(128, ge=1)
    patch_bins: int = Field(16, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mel_bins % self.patch_bins:
            raise ValueError(
                f"`patch_bins` must divide `mel_bins`, but {self.patch_bins} does not divide {self.mel_bins}: change it"
            )
        return self


class Beats(Config):
    """An encoder."""

    size: Literal["tiny", "small", "base"] = "base"
    deep_norm: bool = True


class RandomProjection(TokenizerConfig):
    """Random codes."""

    codebook_size: int = Field(1024, ge=2)
    normalize: Literal["none", "l2"] = "none"


class MaskedPrediction(Config):
    """Predict hidden patches."""

    mask_ratio: float = Field(0.75, gt=0, lt=1)


class Iteration(Config):
    """One iteration."""

    tokenizer: TokenizerChoice


class Iterations(Config):
    """Iterations."""

    iterations: tuple[Iteration, ...] = Field(min_length=1)


class AdamW(Config):
    """An optimizer."""

    betas: tuple[float, float] = (0.9, 0.98)


class Probe(Config):
    """A probe."""

    corpus: CorpusChoice | None = None
    neighbours: tuple[int, ...] = (1, 3)


PARTS: list[tuple[str, str, type[Config]]] = [
    ("corpus", "gm_notes", GmNotes),
    ("corpus", "folder", Folder),
    ("front_end", "kaldi_fbank", KaldiFbank),
    ("encoder", "beats", Beats),
    ("tokenizer", "random_projection", RandomProjection),
    ("objective", "masked_prediction", MaskedPrediction),
    ("optimizer", "adamw", AdamW),
    ("lr_schedule", "polynomial", Folder),
    ("schedule", "beats", Iterations),
    ("task", "linear_probe", Probe),
    ("task", "knn_probe", Probe),
]


@pytest.fixture
def catalog_for() -> Callable[[Sequence[Path]], Catalog]:
    """Make the function for `load_experiment` that maps plugin files to a catalog. Files are only imported."""

    def build(files: Sequence[Path]) -> Catalog:
        for file in files:
            import_file(file)
        catalog = Catalog()
        with catalog.added_by(Origin("tests")):
            ossicle_register_part_kinds(catalog)
            for kind, name, config in PARTS:
                catalog.add(kind, name, f"nowhere:{name}", config=config)
        return catalog

    return build


@pytest.fixture
def catalog(catalog_for: Callable[[Sequence[Path]], Catalog]) -> Catalog:
    return catalog_for([])


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a function that installs a module and its metadata where Python looks for them, like pip."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))

    def write(name: str, code: str) -> None:
        (site / f"{name}.py").write_text(code)
        information = site / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[ossicle]\n{name} = {name}\n")

    return write
