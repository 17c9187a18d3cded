"""The controls: tokens that are positions, and tokens of other clips."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.data import Grid, PatchBatch
from ossicle.core.interfaces import Tokenizer
from ossicle.core.plugin_loading import load_plugins
from ossicle.tokenizers.controls import Position, Shuffled
from ossicle.tokenizers.kmeans_tokenizer import KMeans
from ossicle.tokenizers.tokenizer_config import PositionConfig

PATCH_DIM, BANDS = 5, 2
SOURCE = {"type": "random_projection", "codebook_size": 12, "codebook_dim": 4}


def make(name: str, config: dict[str, Any]) -> Tokenizer:
    catalog = load_plugins().catalog
    stated = {key: value for key, value in config.items() if key != "type"}
    choice = PartChoice.of(catalog.get("tokenizer", name), stated, catalog=catalog)
    return build(choice, Tokenizer, seed=3, patch_dim=PATCH_DIM, bands=BANDS).eval()


def shuffled(*, fitted_to: list[PatchBatch], **config: Any) -> Shuffled:
    made = make("shuffled", {"tokenizer": SOURCE, **config})
    assert isinstance(made, Shuffled)
    made.fit(iter(fitted_to))
    return made


def clips(*columns: int, seed: int = 0) -> PatchBatch:
    """Draw clips whose patches have an offset by position, so that tokens depend on the position."""
    grid = Grid(max(columns), BANDS)
    patches = torch.randn(len(columns), grid.patches, PATCH_DIM, generator=torch.Generator().manual_seed(seed))
    patches[..., 0] += torch.arange(grid.patches) % 4
    return PatchBatch(patches, torch.arange(grid.patches) < torch.tensor(columns)[:, None] * BANDS, grid)


def corpus(batches: int = 6, columns: tuple[int, ...] = (4, 4, 4, 4)) -> list[PatchBatch]:
    return [clips(*columns, seed=seed) for seed in range(100, 100 + batches)]


def single_clip(batch: PatchBatch, clip: int) -> PatchBatch:
    count = int(batch.valid[clip].sum())
    return PatchBatch(
        batch.patches[clip : clip + 1, :count], batch.valid[clip : clip + 1, :count], Grid(count // BANDS, BANDS)
    )


def rows(ids: Tensor) -> set[tuple[int, ...]]:
    return set(map(tuple, ids.tolist()))


def test_the_token_of_a_position_does_not_depend_on_the_audio() -> None:
    tokenizer = Position(PositionConfig(columns=3), bands=2)
    batch = PatchBatch(torch.randn(2, 10, 7), torch.ones(2, 10, dtype=torch.bool), Grid(5, 2))
    ids = tokenizer.tokenize(batch).ids
    assert ids.tolist() == [[0, 1, 2, 3, 4, 5, 4, 5, 4, 5]] * 2, "columns beyond the last share its tokens"
    assert tokenizer.codebook_size == 6


def test_the_former_name_of_the_position_control_still_works() -> None:
    catalog = load_plugins().catalog
    choice = PartChoice.of(catalog.get("tokenizer", "place"), {"columns": 3}, catalog=catalog)
    assert choice.name == "position"
    assert isinstance(build(choice, Tokenizer, seed=0, patch_dim=PATCH_DIM, bands=BANDS), Position)


def test_the_tokens_of_a_clip_come_from_a_clip_of_the_corpus() -> None:
    made, source = shuffled(fitted_to=corpus()), make("random_projection", SOURCE)
    lent = rows(torch.cat([source.tokenize(batch).ids for batch in corpus()]))
    found = rows(torch.cat([made.tokenize(batch).ids for batch in corpus(10)]))
    assert found <= lent
    assert len(found) > len(lent) / 2, "the tokens come from many clips"


def test_tokens_are_the_same_in_every_batch_and_for_every_padding() -> None:
    made, batch = shuffled(fitted_to=corpus()), clips(2, 4, 3)
    together = made.tokenize(batch).ids
    for clip in range(3):
        one = single_clip(batch, clip)
        assert torch.equal(made.tokenize(one).ids[0], together[clip, : one.grid.patches])
    noisy = PatchBatch(batch.patches + 7.0 * ~batch.valid[..., None], batch.valid, batch.grid)
    assert torch.equal(made.tokenize(noisy).ids[batch.valid], together[batch.valid])


def test_the_smallest_change_of_a_clip_selects_another_source_clip() -> None:
    made, batch = shuffled(fitted_to=corpus()), clips(*[4] * 50)
    changed = batch.patches.clone()
    changed[:, 3, 2] = torch.nextafter(changed[:, 3, 2], torch.tensor(9.0))
    other = made.tokenize(PatchBatch(changed, batch.valid, batch.grid)).ids
    assert (other != made.tokenize(batch).ids).any(1).float().mean() > 0.8


def test_shuffling_keeps_token_frequencies_at_every_position_and_breaks_the_link_to_the_audio() -> None:
    many = corpus(40, (4,) * 10)
    made, source = shuffled(fitted_to=many, clips=400), make("random_projection", SOURCE)
    own, lent = (torch.cat([one.tokenize(batch).ids for batch in many]) for one in (source, made))
    by_position = [torch.nn.functional.one_hot(ids, 12).float().mean(0) for ids in (own, lent)]  # (N, K)
    assert (by_position[0] - by_position[1]).abs().max() < 0.12
    chance = (by_position[0] * by_position[1]).sum(1).mean()
    assert float((own == lent).float().mean()) == pytest.approx(float(chance), abs=0.03)


def test_long_clips_use_long_source_clips_and_repeat_those_that_are_too_short() -> None:
    made = shuffled(fitted_to=[clips(2, 5, 5, 2), clips(3, 1, 2, 3, seed=1)])
    assert made.columns[:8].tolist() == [5, 5, 3, 3, 2, 2, 2, 1]
    lent = rows(made.lent[:2, :10, 0])
    assert all(rows(made.tokenize(clips(5, seed=seed)).ids) <= lent for seed in range(9))
    long = made.tokenize(clips(12, seed=2)).ids
    assert torch.equal(long[:, :10], long[:, 10:20])
    capped = shuffled(fitted_to=corpus(), columns=3).tokenize(clips(4)).ids
    assert torch.equal(capped[:, :2], capped[:, 6:])


def test_a_source_that_is_fitted_learns_from_the_same_pass() -> None:
    source = {"type": "kmeans", "codebook_size": 6, "kmeans_vectors": 8}
    made = shuffled(fitted_to=corpus(), tokenizer=source, clips=5)
    reference = make("kmeans", source)
    reference.fit(iter(corpus()))
    assert isinstance(made.source, KMeans)
    assert isinstance(reference, KMeans)
    assert torch.equal(made.source.centres, reference.centres)
    assert int((made.columns > 0).sum()) == 5
    assert len(made.tokenize(corpus()[0]).ids.unique()) > 1


@pytest.mark.parametrize("source", ["self_distilled", {"type": "kmeans", "layer": 1}, {"checkpoint": "./somewhere"}])
def test_a_source_that_needs_a_teacher_or_comes_trained_is_refused(source: object) -> None:
    with pytest.raises(ValidationError, match="must be drawn, or fitted without a teacher"):
        make("shuffled", {"tokenizer": source})
