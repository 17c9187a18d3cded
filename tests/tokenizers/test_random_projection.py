"""The random-projection tokenizer: nearest codes, frozen weights from a seed, and what each normalisation ignores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Program
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ossicle.core.data import Grid, PatchBatch
from ossicle.core.errors import PluginError
from ossicle.core.interfaces import Tokenizer, building_with
from ossicle.tokenizers.nearest import nearest_code
from ossicle.tokenizers.random_projection import RandomProjection
from ossicle.tokenizers.tokenizer_config import RandomProjectionConfig

PATCH_DIM = 64


def tokenizer(seed: int = 0, patch_dim: int = PATCH_DIM, **options: object) -> RandomProjection:
    config = RandomProjectionConfig(**{"codebook_size": 128, "codebook_dim": 16, **options})
    with building_with(seed):
        return RandomProjection(config, patch_dim)


def batch(patches: Tensor) -> PatchBatch:
    return PatchBatch(patches, torch.ones(patches.shape[:2], dtype=torch.bool), Grid(patches.shape[1], 1))


def random_patches(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, PATCH_DIM, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(
    codes=st.integers(2, 40), size=st.integers(1, 12), shape=st.tuples(st.integers(1, 3), st.integers(1, 9)),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_the_nearest_code_is_the_argmin_of_all_distances(
    codes: int, size: int, shape: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Distances of whole numbers are exact. Of equally near codes, both implementations choose the first.
    vectors, codebook = rng.integers(-4, 5, (*shape, size)), rng.integers(-4, 5, (codes, size))
    slow = np.array(
        [[int(np.argmin([((v - c) ** 2).sum() for c in codebook])) for v in clip] for clip in vectors], dtype=np.int64
    )
    found = nearest_code(torch.tensor(vectors, dtype=torch.float32), torch.tensor(codebook, dtype=torch.float32))
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), slow)


@pytest.mark.parametrize("normalize", ["none", "layer", "l2"])
def test_tokens_equal_a_slow_second_implementation(normalize: str) -> None:
    made, patches = tokenizer(normalize=normalize), random_patches(2, 5)
    projection, codebook = made.projection.double().numpy(), made.codebook.double().numpy()

    def token_of(patch: np.ndarray) -> int:
        if normalize == "layer":
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + 1e-5)
        vector = patch @ projection
        if normalize == "l2":
            vector = vector / np.linalg.norm(vector)
            assert np.allclose(np.linalg.norm(codebook, axis=1), 1)
        return int(np.argmin(((vector - codebook) ** 2).sum(1)))

    slow = [[token_of(patch) for patch in clip] for clip in patches.double().numpy()]
    assert made.tokenize(batch(patches)).ids.tolist() == slow


def test_is_frozen_and_follows_its_seed_in_another_process(tmp_path: Path, program: Program) -> None:
    made = tokenizer(seed=7)
    assert not list(made.parameters())
    script = tmp_path / "other.py"
    script.write_text(
        "import torch; torch.manual_seed(99); torch.randn(5)\n"
        "from ossicle.core.interfaces import building_with\n"
        "from ossicle.tokenizers.random_projection import RandomProjection\n"
        "from ossicle.tokenizers.tokenizer_config import RandomProjectionConfig\n"
        "with building_with(7):\n"
        "    made = RandomProjection(RandomProjectionConfig(codebook_size=128, codebook_dim=16), 64)\n"
        "print(made.projection.double().sum().item().hex(), made.codebook.double().sum().item().hex())\n"
    )
    printed = program(cwd=tmp_path, script=script).stdout.split()
    assert printed == [made.projection.double().sum().item().hex(), made.codebook.double().sum().item().hex()]


def test_another_seed_gives_other_weights_without_using_the_global_generator() -> None:
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    one, two = tokenizer(seed=0), tokenizer(seed=1)
    assert torch.equal(torch.randn(3), expected)
    assert not torch.equal(one.projection, two.projection)
    assert not torch.equal(one.codebook, two.codebook)
    # The projection and the codebook must not be the same random numbers.
    assert not torch.equal(one.projection.flatten()[:100] * PATCH_DIM**0.5, one.codebook.flatten()[:100])


def test_layer_normalisation_ignores_level_and_scale_and_l2_ignores_scale() -> None:
    patches = random_patches(2, 40)
    louder = patches * torch.rand(2, 40, 1).add(0.5)
    shifted = louder + torch.randn(2, 40, 1)
    tokens = {kind: tokenizer(normalize=kind) for kind in ("none", "layer", "l2")}

    def changed(kind: str, other: Tensor) -> float:
        before, after = (tokens[kind].tokenize(batch(x)).ids for x in (patches, other))
        return float((before != after).float().mean())

    assert changed("layer", shifted) <= 0.02  # rounding may decide between almost equal distances
    assert changed("l2", louder) <= 0.02
    assert changed("l2", shifted) > 0.2
    assert changed("none", louder) > 0.1
    assert changed("none", shifted) > 0.2


def used_and_perplexity(ids: Tensor, size: int) -> tuple[int, float]:
    share = torch.bincount(ids.flatten(), minlength=size).double() / ids.numel()
    share = share[share > 0]
    return len(share), float((-(share * share.log()).sum()).exp())


def test_a_common_level_collapses_plain_tokens_but_not_layer_normalised_ones() -> None:
    """Add a constant offset to unit-variance patches, the problem of NeMo#15589 and speechbrain#2822."""
    patches = torch.randn(20, 200, 256, generator=torch.Generator().manual_seed(0))
    found = {}
    for kind in ("none", "layer"):
        made = tokenizer(normalize=kind, patch_dim=256, codebook_size=1024, codebook_dim=16)
        for offset in (0.0, 3.0):
            found[kind, offset] = used_and_perplexity(made.tokenize(batch(patches + offset)).ids, 1024)
    assert found["none", 0.0][0] > 700
    assert found["none", 3.0][0] < 100
    assert found["none", 3.0][1] < 0.05 * found["none", 0.0][1]
    assert found["layer", 3.0] == pytest.approx(found["layer", 0.0], rel=0.02)
    assert found["layer", 3.0][0] > 700


def test_tokens_are_the_same_under_bf16() -> None:
    made, patches = tokenizer(), random_patches(2, 100)
    expected = made.tokenize(batch(patches)).ids
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(made(batch(patches)), expected)  # `tokenize` prevents this
        assert torch.equal(made.tokenize(batch(patches)).ids, expected)


def test_silence_has_a_token_too() -> None:
    for kind in ("none", "layer", "l2"):
        ids = tokenizer(normalize=kind).tokenize(batch(torch.zeros(1, 3, PATCH_DIM))).ids
        assert ids.unique().numel() == 1


def test_several_codebooks_give_the_tokens_of_each_single_one() -> None:
    made, patches = tokenizer(codebooks=3, normalize="l2"), random_patches(2, 30)
    ids = made.tokenize(batch(patches)).ids
    assert ids.shape == (2, 30, 3)
    for stream in range(3):
        single = tokenizer(normalize="l2")
        single.projection.copy_(made.projection[:, 16 * stream : 16 * (stream + 1)])
        single.codebook.copy_(made.codebook[128 * stream : 128 * (stream + 1)])
        assert torch.equal(single.tokenize(batch(patches)).ids, ids[..., stream])
    same = (ids[..., 0] == ids[..., 1]).float().mean()
    assert same < 0.1, "the codebooks and their projections must differ"


class Odd(Tokenizer):
    """A tokenizer that returns a given answer."""

    def __init__(self, answer: object) -> None:
        super().__init__(4)
        self.answer = answer

    def forward(self, batch: PatchBatch) -> Tensor:
        return self.answer  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(1, 2, dtype=torch.int64), r"must give \(1, 3\) int64 tokens, but gave \(1, 2\) torch.int64"),
        (torch.zeros(1, 3), r"but gave \(1, 3\) torch.float32"),
        (None, "but gave NoneType"),
        (torch.tensor([[0, 4, 1]]), "has `codebook_size` 4, but gave tokens from 0 to 4"),
        (torch.tensor([[0, -1, 1]]), "but gave tokens from -1 to 1"),
    ],
)
def test_invalid_tokens_are_refused(answer: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Odd(answer).tokenize(batch(torch.zeros(1, 3, 2)))


def test_tokens_must_have_all_streams() -> None:
    odd = Odd(torch.zeros(1, 3, dtype=torch.int64))
    odd.streams = 2
    with pytest.raises(PluginError, match=r"must give \(1, 3, 2\) int64 tokens, but gave \(1, 3\) torch.int64"):
        odd.tokenize(batch(torch.zeros(1, 3, 2)))
    odd.answer = torch.tensor([[[0, 1], [2, 3], [3, 0]]])
    found = odd.tokenize(batch(torch.zeros(1, 3, 2)))
    assert torch.equal(found.by_stream, found.ids)


def test_one_token_per_patch_is_one_stream() -> None:
    found = Odd(torch.tensor([[3, 1, 2]])).tokenize(batch(torch.zeros(1, 3, 2)))
    assert found.by_stream.tolist() == [[[3], [1], [2]]]


def test_a_codebook_has_at_least_one_code_and_a_tokenizer_one_stream() -> None:
    with pytest.raises(PluginError, match="`codebook_size` must be at least 1, but is 0"):
        Tokenizer.__init__(Odd.__new__(Odd), 0)
    with pytest.raises(PluginError, match="`streams` must be at least 1, but is 0"):
        Tokenizer.__init__(Odd.__new__(Odd), 4, streams=0)
