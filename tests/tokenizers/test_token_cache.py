"""Cached tokens equal those that the tokenizer computes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import forking
from torch import Tensor, nn

from ossicle.core.data import Grid, PatchBatch
from ossicle.core.interfaces import Tokenizer
from ossicle.tokenizers.token_cache import TokenCache, is_worth_caching

CODES = 50


class Counting(Tokenizer):
    """A tokenizer that returns the first number of a patch and records the number of clips of each call."""

    def __init__(self, streams: int = 1) -> None:
        super().__init__(CODES, streams)
        self.clips_per_call: list[int] = []
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch: PatchBatch) -> Tensor:
        self.clips_per_call.append(len(batch.valid))
        ids = batch.patches[..., 0].long()
        return ids if self.streams == 1 else torch.stack([(ids + n) % CODES for n in range(self.streams)], -1)


def batch_of(clips: list[int], count: int = 6) -> PatchBatch:
    numbers = (torch.tensor(clips)[:, None] * 7 + torch.arange(count)) % CODES
    # The length of a clip does not depend on its batch.
    valid = torch.arange(count) < 3 + torch.tensor(clips)[:, None] % 4
    return PatchBatch(
        numbers[..., None].float(), valid, Grid(count // 2, 2), clips=torch.tensor(clips), draws=torch.tensor(clips)
    )


@pytest.mark.parametrize("streams", [1, 3])
def test_each_whole_clip_is_tokenized_once(tmp_path: Path, streams: int) -> None:
    tokenizer, plain = Counting(streams), Counting(streams)
    whole = np.ones(10, bool)
    whole[4] = False
    for file_opened in range(2):
        cache = TokenCache(tokenizer, whole, tmp_path / "tokens.sqlite")
        for clips, count in (([1, 2, 4], 6), ([2, 4, 5], 8), ([5, 1], 6)):
            batch = batch_of(clips, count)
            found, expected = cache.tokenize(batch), plain.tokenize(batch)
            assert torch.equal(found.by_stream[batch.valid], expected.by_stream[batch.valid]), file_opened
    # First all clips, then the cropped and the new one, then none. Later only the cropped one, in two batches.
    assert tokenizer.clips_per_call == [3, 2, 1, 1]


@pytest.mark.parametrize("missing", ["clips", "draws"])
def test_batches_outside_the_training_stream_are_tokenized_every_time(tmp_path: Path, missing: str) -> None:
    tokenizer = Counting()
    cache = TokenCache(tokenizer, np.ones(3, bool), tmp_path / "tokens.sqlite")
    cache.tokenize(batch_of([1, 2]))
    # Pictures in the report use a shorter part of the same clips.
    batch = batch_of([1, 2], 2)
    setattr(batch, missing, None)
    for _ in range(2):
        assert torch.equal(cache.tokenize(batch).ids, Counting().tokenize(batch).ids)
    assert tokenizer.clips_per_call == [2, 2, 2]


def test_tokens_are_cached_only_if_reading_them_is_cheaper() -> None:
    light = Counting()
    del light.weight
    assert is_worth_caching(Counting(), augmented=False)
    assert not is_worth_caching(light, augmented=False)
    assert not is_worth_caching(Counting(), augmented=True)


def fill_caches(folder: Path) -> None:
    for number in range(60):
        cache = TokenCache(Counting(), np.ones(10, bool), folder / f"{number}.sqlite")
        cache.tokenize(batch_of([1, 2, 4]))


@pytest.mark.slow
def test_several_processes_open_and_fill_one_file_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=forking()) as processes:
        for done in [processes.submit(fill_caches, tmp_path) for _ in range(4)]:
            done.result()
