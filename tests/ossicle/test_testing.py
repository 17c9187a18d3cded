"""The contract of tokenizers: what the built-in ones keep to, and each defect told by name."""

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
"""Configurations of built-in tokenizers, where their defaults take long to learn."""
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
    """Of a hash."""

    bits: int = 4
    """Random hyperplanes."""


class Hash(Tokenizer):
    """Label a patch by the side of random hyperplanes on which it lies: without a defect."""

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
    """Split patches at the mean of the corpus: without a defect."""

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
    """Of a tokenizer that a teacher trains."""

    objective: ClassVar[str | None] = "distillation"
    needs_teacher: ClassVar[bool] = True


class Explodes(QuantisingTokenizer):
    """Gives vectors that are no numbers."""

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
    """Of a hash."""

    model_config = ConfigDict(frozen=False)
    bits: int = 4
    """Random hyperplanes."""


class Unsaid(Config):
    """Of a hash."""

    bits: int = 4


class ThawedHash(Hash):
    """Has a configuration that anybody may change."""

    def __init__(self, config: Thawed, patch_dim: int) -> None:
        super().__init__(Settings(bits=config.bits), patch_dim)


class UnsaidHash(Hash):
    """Has a field without documentation."""

    def __init__(self, config: Unsaid, patch_dim: int) -> None:
        super().__init__(Settings(bits=config.bits), patch_dim)


class AsksForMore(Hash):
    """Asks for what no run offers."""

    def __init__(self, config: Settings, patch_dim: int, cochlea: object) -> None:
        super().__init__(config, patch_dim)


def failure(contract: type[TokenizerContract], test: str, **fixtures: Any) -> str | None:
    """What a test of the contract says, or None if it passes."""
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


SHAPE, ALONE, PADDING = (
    "tokens_have_the_right_shape_type_and_range",
    "a_clip_has_the_same_tokens_alone_and_in_a_batch",
    "padding_never_matters",
)
SAVED, LEARNT = "saved_and_loaded_it_gives_the_same_tokens", "what_is_learnt_is_kept_and_free_of_padding"
MOVES, CONFIGURATION = "every_tensor_moves_with_it", "configuration_is_frozen_and_documented"


@pytest.mark.parametrize(
    ("defect", "test", "told"),
    [
        (AnotherShape, SHAPE, "`AnotherShape` must give (4, 64) int64 tokens, but gave (4, 64, 1) torch.int64"),
        (AnotherType, SHAPE, "int64 tokens, but gave (4, 64) torch.float32"),
        (OneTooMany, SHAPE, "has `codebook_size` 16, but gave tokens from 1 to 16"),
        (OutOfRangeInSilence, SHAPE, "gave tokens from -1 to 15"),
        (Constant, "tokens_tell_patches_apart", "all the token 3: it tells nothing"),
        (ChanceInTheConstructor, "same_seed_same_tokens", "differ in `planes`: draw random numbers with `self.seed"),
        (ChanceInForward, "same_seed_same_tokens", "two made from the same seed give different tokens"),
        (SeedOfItsOwn, "another_seed_another_tokenizer", "gives the same tokens from seeds 3 and 4: draw with `self"),
        (NormalisesOverTheBatch, ALONE, "other tokens alone than in a batch: let nothing pass from one clip"),
        (NormalisesOverPadding, ALONE, "clip 1 gets other tokens alone than in a batch"),
        (NormalisesOverPadding, PADDING, "depend on what lies in padded positions: leave those out with `batch.valid`"),
        (Overwrites, "tokenizing_changes_nothing", "overwrites `batch.patches`, which the encoder is still to see"),
        (Counts, "tokenizing_changes_nothing", "tokenizing changes `usage` of tokenizer `Counts`: learn in `fit` or"),
        (BareTensor, MOVES, "`_steps` of tokenizer `BareTensor` is a bare tensor"),
        (StaysBehind, MOVES, "`return (bits << torch.arange(bits.shape[-1])).sum(-1)`): make tensors where"),
        (LooksUpElsewhere, MOVES, "`return torch.arange(self.codebook_size)[super().forward(batch)]`): make tensors"),
        (FitsPadding, LEARNT, "`fit` learns from padded positions: leave those out with `batch.valid`"),
        (LearnsNothing, LEARNT, "changes no buffer and no parameter of tokenizer `LearnsNothing`"),
        (Forgets, SAVED, "tokens differ after saving and loading: everything that tokens depend on must be in its"),
        (Grows, SAVED, "with the shapes that its constructor gives them ("),
        (Explodes, LEARNT, "training tokenizer `Explodes` by `distillation` gives the loss nan"),
        (ThawedHash, CONFIGURATION, "`Thawed` must keep `frozen=True`"),
        (UnsaidHash, CONFIGURATION, "`Unsaid.bits` has no docstring: say under the field what it does"),
        (AsksForMore, SHAPE, "needs `cochlea`, but only these are available: bands, catalog, encoder_choice"),
    ],
)  # fmt: skip
def test_a_defect_is_told(defect: type[Tokenizer], test: str, told: str, fixtures: dict[str, Any]) -> None:
    given = failure(about(defect), test, **fixtures)
    assert given is not None
    assert told in given


@pytest.mark.parametrize("tokenizer", [Hash, Fitted])
def test_what_has_no_defect_passes(tokenizer: type[Tokenizer], fixtures: dict[str, Any]) -> None:
    contract = about(tokenizer)
    tests = [name.removeprefix("test_") for name in dir(contract) if name.startswith("test_")]
    assert len(tests) == 12
    assert {test: failure(contract, test, **fixtures) for test in tests} == dict.fromkeys(tests)


def test_what_is_said_not_to_be_drawn_is_held_to_that() -> None:
    told = failure(about(Hash, drawn=False), "another_seed_another_tokenizer")
    assert told == "tokenizer `Hash` gives different tokens from seeds 3 and 4, though the test says `drawn = False`"
    assert failure(about(SeedOfItsOwn, drawn=False), "another_seed_another_tokenizer") is None


def test_speed_is_reported_and_held_to_what_the_author_allows(
    fixtures: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, object] = {}
    fixtures["record_property"] = found.__setitem__
    assert failure(about(Hash), "speed", **fixtures) is None
    assert "tokenizer `Hash` takes 0." in capsys.readouterr().out
    assert 0 < float(str(found["times_random_projection"])) < 1
    told = failure(about(Hash, slowest=0.0), "speed", **fixtures)
    assert told is not None
    assert "times as long as random projection; the test allows 0 times: raise `slowest`" in told
