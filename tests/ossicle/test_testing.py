"""The contract of tokenizers: built-in tokenizers fulfil it, and each defect is reported."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import ConfigDict
from torch import Tensor

from ossicle.core.config import Config, TokenizerConfig
from ossicle.core.data import PatchBatch
from ossicle.core.interfaces import Tokenizer
from ossicle.core.plugin_loading import import_file, load_plugins
from ossicle.testing import TokenizerContract
from ossicle.tokenizers.quantiser import Quantised, QuantisingTokenizer

pytestmark = pytest.mark.usefixtures("own_plugins")

EXAMPLE = Path(__file__).parents[2] / "examples" / "sign_hash.py"

SMALL: Mapping[str, Mapping[str, Any]] = {
    "kmeans": {"codebook_size": 16, "kmeans_rounds": 5},
    "residual_distilled": {"codebook_size": 8, "codebook_dim": 8, "codebooks": 2},
    "self_distilled": {"codebook_size": 16, "codebook_dim": 8},
    "shuffled": {"tokenizer": "random_projection"},
}
"""Configurations of built-in tokenizers whose defaults take long to learn."""
NOT_DRAWN = {"position"}
FROM_A_FILE = {"checkpoint"}
BUILT_IN = [
    part.name
    for part in load_plugins().catalog.parts("tokenizer")
    if part.origin.source == "ossicle" and part.name not in FROM_A_FILE
]


class TestBuiltIn(TokenizerContract):
    @pytest.fixture(autouse=True, params=BUILT_IN)
    def _chosen(self, request: pytest.FixtureRequest) -> None:
        self.tokenizer = request.param
        self.config = SMALL.get(request.param, {})
        self.drawn = request.param not in NOT_DRAWN


class TestTheExample(TokenizerContract):
    @pytest.fixture(autouse=True)
    def _chosen(self) -> None:
        self.tokenizer = import_file(EXAMPLE).SignHash


# Tokenizers with one defect each


class Settings(Config):
    """Settings of a hash."""

    bits: int = 4
    """Random hyperplanes."""


class Hash(Tokenizer):
    """Hash a patch by the sides of random hyperplanes that it lies on. Has no defect."""

    planes: Tensor

    def __init__(self, config: Settings, patch_dim: int) -> None:
        super().__init__(codebook_size=2**config.bits)
        self.register_buffer("planes", self.seeded_normal(patch_dim, config.bits))

    def forward(self, batch: PatchBatch) -> Tensor:
        return self.hashed(batch.patches)

    def hashed(self, patches: Tensor) -> Tensor:
        bits = (patches @ self.planes > 0).long()
        return (bits << torch.arange(bits.shape[-1], device=bits.device)).sum(-1)


class AnotherShape(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return super().forward(batch).unsqueeze(-1)


class AnotherType(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return super().forward(batch).float()


class OneTooMany(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return super().forward(batch) + 1


class OutOfRangeInSilence(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return super().forward(batch).masked_fill((batch.patches == 0).all(-1), -1)


class Constant(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return torch.full_like(super().forward(batch), 3)


class ChanceInTheConstructor(Hash):
    def __init__(self, config: Settings, patch_dim: int) -> None:
        super().__init__(config, patch_dim)
        self.planes = torch.from_numpy(np.random.default_rng().standard_normal(self.planes.shape)).float()


class ChanceInForward(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return self.hashed(batch.patches + torch.randn_like(batch.patches))


class SeedOfItsOwn(Hash):
    def __init__(self, config: Settings, patch_dim: int) -> None:
        super().__init__(config, patch_dim)
        self.planes = torch.randn(self.planes.shape, generator=torch.Generator().manual_seed(0))


class NormalisesOverTheBatch(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return self.hashed(batch.patches - batch.patches[batch.valid].mean(0))


class NormalisesOverPadding(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return self.hashed(batch.patches - batch.patches.mean(1, keepdim=True))


class Overwrites(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        batch.patches -= batch.patches.mean(-1, keepdim=True)
        return super().forward(batch)


class Counts(Hash):
    usage: Tensor

    def __init__(self, config: Settings, patch_dim: int) -> None:
        super().__init__(config, patch_dim)
        self.register_buffer("usage", torch.zeros(self.codebook_size))

    def forward(self, batch: PatchBatch) -> Tensor:
        tokens = super().forward(batch)
        self.usage += torch.bincount(tokens.flatten(), minlength=self.codebook_size)
        return tokens


class BareTensor(Hash):
    def __init__(self, config: Settings, patch_dim: int) -> None:
        super().__init__(config, patch_dim)
        self._steps = [torch.arange(config.bits)]


class StaysBehind(Hash):
    def hashed(self, patches: Tensor) -> Tensor:
        bits = (patches @ self.planes > 0).long()
        return (bits << torch.arange(bits.shape[-1])).sum(-1)


class LooksUpElsewhere(Hash):
    def forward(self, batch: PatchBatch) -> Tensor:
        return torch.arange(self.codebook_size)[super().forward(batch)]


class Fitted(Hash):
    """Split patches at the mean of the corpus. Has no defect."""

    middle: Tensor

    def __init__(self, config: Settings, patch_dim: int) -> None:
        super().__init__(config, patch_dim)
        self.register_buffer("middle", torch.zeros(patch_dim))

    def fit(self, batches: Iterable[PatchBatch]) -> None:
        self.middle.copy_(torch.cat([self.seen(batch) for batch in batches]).mean(0))

    def seen(self, batch: PatchBatch) -> Tensor:
        return batch.patches[batch.valid]

    def forward(self, batch: PatchBatch) -> Tensor:
        return self.hashed(batch.patches - self.middle)


class FitsPadding(Fitted):
    def seen(self, batch: PatchBatch) -> Tensor:
        return batch.patches.flatten(0, 1)


class LearnsNothing(Fitted):
    def fit(self, batches: Iterable[PatchBatch]) -> None:
        torch.cat([self.seen(batch) for batch in batches])


class Forgets(Fitted):
    level = 0.0

    def fit(self, batches: Iterable[PatchBatch]) -> None:
        super().fit(batches)
        self.level = 5.0

    def forward(self, batch: PatchBatch) -> Tensor:
        return super().forward(replace(batch, patches=batch.patches + self.level))


class Grows(Fitted):
    def fit(self, batches: Iterable[PatchBatch]) -> None:
        super().fit(batches)
        self.middle = self.middle.unsqueeze(0)


class TaughtSettings(TokenizerConfig):
    """Settings of a tokenizer that is trained by a teacher."""

    objective: ClassVar[str | None] = "distillation"
    needs_teacher: ClassVar[bool] = True


class Explodes(QuantisingTokenizer):
    """Returns vectors of NaN."""

    code_dim = 4

    def __init__(self, config: TaughtSettings, patch_dim: int) -> None:
        super().__init__(codebook_size=4)
        self.project = torch.nn.Linear(patch_dim, 4)

    def forward(self, batch: PatchBatch) -> Tensor:
        return self.project(batch.patches).argmax(-1)

    def quantise(self, batch: PatchBatch) -> Quantised:
        vectors = self.project(batch.patches) / 0
        return Quantised(vectors, self(batch), (vectors - vectors).square().mean(-1))


class Thawed(Config):
    """Settings of a hash."""

    model_config = ConfigDict(frozen=False)
    bits: int = 4
    """Random hyperplanes."""


class Undocumented(Config):
    """Settings of a hash."""

    bits: int = 4


class ThawedHash(Hash):
    """Has a configuration that is not frozen."""

    def __init__(self, config: Thawed, patch_dim: int) -> None:
        super().__init__(Settings(bits=config.bits), patch_dim)


class UndocumentedHash(Hash):
    """Has a field without documentation."""

    def __init__(self, config: Undocumented, patch_dim: int) -> None:
        super().__init__(Settings(bits=config.bits), patch_dim)


class AsksForMore(Hash):
    """Has a constructor argument that no run can pass."""

    def __init__(self, config: Settings, patch_dim: int, cochlea: object) -> None:
        super().__init__(config, patch_dim)


def failure(contract: type[TokenizerContract], test: str, **fixtures: Any) -> str | None:
    """Run a test of the contract and return its failure message, or None if it passes."""
    method = getattr(contract(), f"test_{test}")
    try:
        method(**{name: fixtures[name] for name in inspect.signature(method).parameters})
    except pytest.fail.Exception as failed:
        return str(failed)
    except pytest.skip.Exception:
        return None
    return None


def about(tokenizer: type[Tokenizer], **attributes: Any) -> type[TokenizerContract]:
    return type(f"Test{tokenizer.__name__}", (TokenizerContract,), {"tokenizer": tokenizer, **attributes})


@pytest.fixture
def fixtures(tmp_path: Path) -> dict[str, Any]:
    return {"tmp_path": tmp_path, "record_property": lambda name, value: None}


SHAPE, SINGLE, PADDING = (
    "tokens_have_the_right_shape_type_and_range",
    "a_clip_has_the_same_tokens_alone_and_in_a_batch",
    "padding_never_matters",
)
SAVED, LEARNT = "saved_and_loaded_it_gives_the_same_tokens", "what_is_learnt_is_kept_and_free_of_padding"
MOVES, CONFIGURATION = "every_tensor_moves_with_it", "configuration_is_frozen_and_documented"


@pytest.mark.parametrize(
    ("defect", "test", "message"),
    [
        (AnotherShape, SHAPE, "`AnotherShape` must give (4, 64) int64 tokens, but gave (4, 64, 1) torch.int64"),
        (AnotherType, SHAPE, "int64 tokens, but gave (4, 64) torch.float32"),
        (OneTooMany, SHAPE, "has `codebook_size` 16, but gave tokens from 1 to 16"),
        (OutOfRangeInSilence, SHAPE, "gave tokens from -1 to 15"),
        (Constant, "tokens_tell_patches_apart", "the same token 3: tokens must depend"),
        (ChanceInTheConstructor, "same_seed_same_tokens", "differ in `planes`: draw random numbers with `self.seed"),
        (ChanceInForward, "same_seed_same_tokens", "two tokenizers from the same seed give different tokens"),
        (SeedOfItsOwn, "another_seed_another_tokenizer", "gives the same tokens from seeds 3 and 4: draw with `self"),
        (NormalisesOverTheBatch, SINGLE, "in a batch than as a single clip: clips must not affect each other"),
        (NormalisesOverPadding, SINGLE, "clip 1 gets other tokens in a batch than as a single clip"),
        (NormalisesOverPadding, PADDING, "real patches depend on padding: exclude padding with `batch.valid`"),
        (Overwrites, "tokenizing_changes_nothing", "overwrites `batch.patches`, which the encoder reads later"),
        (Counts, "tokenizing_changes_nothing", "tokenizing changes `usage` of tokenizer `Counts`: learn in `fit` or"),
        (BareTensor, MOVES, "`_steps` of tokenizer `BareTensor` is a plain tensor"),
        (StaysBehind, MOVES, "`return (bits << torch.arange(bits.shape[-1])).sum(-1)`): create tensors on the device"),
        (LooksUpElsewhere, MOVES, "`return torch.arange(self.codebook_size)[super().forward(batch)]`): create tensors"),
        (FitsPadding, LEARNT, "`fit` learns from padding: exclude padding with `batch.valid`"),
        (LearnsNothing, LEARNT, "changes no buffer and no parameter of tokenizer `LearnsNothing`"),
        (Forgets, SAVED, "tokens differ after saving and loading: everything that tokens depend on must be in its"),
        (Grows, SAVED, "with the shapes that its constructor gives them ("),
        (Explodes, LEARNT, "training tokenizer `Explodes` by `distillation` gives the loss nan"),
        (ThawedHash, CONFIGURATION, "`Thawed` must keep `frozen=True`"),
        (UndocumentedHash, CONFIGURATION, "`Undocumented.bits` has no docstring: describe the field in a string below"),
        (AsksForMore, SHAPE, "needs `cochlea`, but only these are available: bands, catalog, encoder_choice"),
    ],
)  # fmt: skip
def test_a_defect_is_reported(defect: type[Tokenizer], test: str, message: str, fixtures: dict[str, Any]) -> None:
    report = failure(about(defect), test, **fixtures)
    assert report is not None
    assert message in report


@pytest.mark.parametrize("tokenizer", [Hash, Fitted])
def test_a_tokenizer_without_defect_passes(tokenizer: type[Tokenizer], fixtures: dict[str, Any]) -> None:
    contract = about(tokenizer)
    tests = [name.removeprefix("test_") for name in dir(contract) if name.startswith("test_")]
    assert len(tests) == 12
    assert {test: failure(contract, test, **fixtures) for test in tests} == dict.fromkeys(tests)


def test_the_seed_must_not_matter_if_drawn_is_false() -> None:
    report = failure(about(Hash, drawn=False), "another_seed_another_tokenizer")
    assert report == "tokenizer `Hash` gives different tokens from seeds 3 and 4, but the test sets `drawn = False`"
    assert failure(about(SeedOfItsOwn, drawn=False), "another_seed_another_tokenizer") is None


def test_speed_is_reported_and_limited_by_the_author(
    fixtures: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, object] = {}
    fixtures["record_property"] = found.__setitem__
    assert failure(about(Hash), "speed", **fixtures) is None
    assert "tokenizer `Hash` takes 0." in capsys.readouterr().out
    assert 0 < float(str(found["times_random_projection"])) < 1
    report = failure(about(Hash, slowest=0.0), "speed", **fixtures)
    assert report is not None
    assert "times as long as random projection; the test allows 0 times: process all patches at once" in report
