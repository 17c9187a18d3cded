"""k-means compared with scikit-learn and slow second implementations, its sample, and the layer that it clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.data import Grid, PatchBatch
from ossicle.core.errors import PluginError
from ossicle.core.interfaces import Encoder, Tokenizer
from ossicle.core.plugin_loading import load_plugins
from ossicle.tokenizers.clustering import Reservoir, flat_kmeans, sampled
from ossicle.tokenizers.kmeans_tokenizer import KMeans
from ossicle.tokenizers.tokenizer_config import KMeansConfig

PATCH_DIM, BANDS = 6, 2
TEACHER = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 16, "dropout": 0.5}


def clustered(*, clusters: int = 5, each: int = 40) -> tuple[Tensor, Tensor]:
    """Draw vectors around centres that are far apart, and return both."""
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(clusters, PATCH_DIM, generator=generator)
    noise = 0.1 * torch.randn(clusters * each, PATCH_DIM, generator=generator)
    return centres.repeat_interleave(each, 0) + noise, centres


def batches(vectors: Tensor, *, clips: int = 4) -> list[PatchBatch]:
    """Make clips of the vectors, two in each batch. The second half of every clip is padding with noise."""
    patches = vectors.view(clips, -1, PATCH_DIM)
    made = []
    for pair in patches.split(2):
        padded = torch.cat([pair, 50 + torch.randn_like(pair)], dim=1)
        valid = torch.arange(padded.shape[1]).expand(len(pair), -1) < pair.shape[1]
        made.append(PatchBatch(padded, valid, Grid(padded.shape[1] // BANDS, BANDS)))
    return made


def tokenizer(*, teacher: bool = False, **config: Any) -> KMeans:
    catalog = load_plugins().catalog
    choice = PartChoice.of(catalog.get("tokenizer", "kmeans"), {"codebook_size": 5, "normalize": "none", **config})
    offers: dict[str, Any] = {}
    if teacher:
        offers["teacher_choice"] = PartChoice.of(catalog.get("encoder", "plain_vit"), TEACHER)
        offers["teacher"] = build(offers["teacher_choice"], Encoder, seed=9, patch_dim=PATCH_DIM, bands=BANDS)
    made = build(choice, Tokenizer, seed=1, patch_dim=PATCH_DIM, bands=BANDS, **offers)
    assert isinstance(made, KMeans)
    return made


def test_clusters_equal_those_of_scikit_learn() -> None:
    vectors, true = clustered()
    centres, counts = flat_kmeans(vectors, 5, rounds=50, seed=0)
    reference = Reference(5, n_init=10, random_state=7).fit(vectors.numpy()).cluster_centers_
    order = np.lexsort(reference.T)
    np.testing.assert_allclose(centres.numpy()[np.lexsort(centres.numpy().T)], reference[order], atol=1e-4)
    assert counts.tolist() == [40] * 5
    assert (torch.cdist(true, centres).min(1).values < 0.1).all()


def test_every_centre_is_the_mean_of_the_vectors_nearest_to_it() -> None:
    vectors = torch.randn(300, 3, generator=torch.Generator().manual_seed(2))
    centres, counts = flat_kmeans(vectors, 7, rounds=200, seed=0)
    nearest = torch.cdist(vectors, centres).argmin(1)
    means = torch.stack([vectors[nearest == code].mean(0) for code in range(7)])
    torch.testing.assert_close(centres, means, atol=0.02, rtol=0)
    assert counts.sum() == 300


def test_fewer_vectors_than_codes_and_silence_are_allowed() -> None:
    few, counts = flat_kmeans(torch.randn(3, 4), 8, rounds=5, seed=0)
    assert few.shape == (8, 4)
    assert counts.min() >= 1
    silent, _ = flat_kmeans(torch.zeros(20, 4), 8, rounds=5, seed=0)
    assert not silent.any()


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), max_size=8), count=st.integers(1, 12), seed=st.integers(0, 99))
def test_a_sample_has_no_item_of_the_stream_twice(sizes: list[int], count: int, seed: int) -> None:
    stream = list(torch.arange(float(sum(sizes)))[:, None].split(sizes)) if sizes else []
    drawn = sampled(stream, count, seed=seed)
    assert len(drawn) == min(count, sum(sizes))
    assert len(set(drawn.flatten().tolist())) == len(drawn)
    assert drawn.shape[0] == 0 or set(drawn.flatten().tolist()) <= set(map(float, range(sum(sizes))))


def test_all_items_are_equally_likely_to_be_drawn() -> None:
    hits = np.zeros(20)
    for seed in range(2000):
        sample = np.full(5, -1)
        reservoir = Reservoir(5, seed=seed)
        for first in range(0, 20, 4):
            for item, slot in enumerate(reservoir.slots(4), start=first):
                if slot < 5:
                    sample[slot] = item
        hits[sample] += 1
    assert np.abs(hits / 2000 - 0.25).max() < 0.05


def test_tokens_are_the_nearest_centres_of_real_patches() -> None:
    vectors, true = clustered()
    made = tokenizer()
    made.fit(iter(batches(vectors)))
    assert (torch.cdist(true, made.centres).min(1).values < 0.1).all(), "padding must not draw centres"
    batch = batches(vectors)[0]
    slow = torch.cdist(batch.patches, made.centres[None].expand(2, -1, -1)).argmin(-1)
    assert torch.equal(made.tokenize(batch).ids, slow)


def test_layer_normalisation_ignores_level_and_scale() -> None:
    vectors = torch.randn(80, PATCH_DIM, generator=torch.Generator().manual_seed(1))
    made = tokenizer(normalize="layer")
    made.fit(iter(batches(vectors)))
    batch, louder = batches(vectors)[0], batches(3 * vectors + 1)[0]
    same = made.tokenize(batch).ids == made.tokenize(louder).ids
    assert same[batch.valid].float().mean() > 0.98


@pytest.mark.parametrize("layer", [0, 1, 2, "last"])
def test_a_layer_of_the_teacher_is_clustered_without_dropout(layer: int | str) -> None:
    made = tokenizer(teacher=True, layer=layer)
    vectors, _ = clustered()
    made.fit(iter(batches(vectors)))
    batch = batches(vectors)[0]
    teacher = tokenizer(teacher=True, layer=layer).teacher.eval()
    encoded = teacher(batch, layers=True)
    expected = encoded.sequence if layer == "last" else encoded.layers[int(layer)]
    torch.testing.assert_close(made.encode(batch), expected)
    assert len(made.tokenize(batch).ids[batch.valid].unique()) > 1
    assert not any(parameter.requires_grad for parameter in made.parameters())


def test_input_normalization_applies_to_patches_or_to_the_vectors_of_the_teacher() -> None:
    batch = batches(clustered()[0])[0]
    patches = tokenizer(input_normalization="clip_mean")
    assert torch.equal(patches.input_of(batch).patches, batch.normalized(deviation=False).patches)
    layer = tokenizer(teacher=True, layer=1, input_normalization="clip_mean").eval()
    assert layer.input_of(batch) is batch
    raw = tokenizer(teacher=True, layer=1).eval().encode(batch)
    columns = batch.valid.sum(1) // BANDS
    for clip, vectors, plain in zip(range(len(raw)), layer.encode(batch), raw, strict=True):
        of_band = plain[: int(columns[clip]) * BANDS : BANDS]
        torch.testing.assert_close(vectors[: int(columns[clip]) * BANDS : BANDS], of_band - of_band.mean(0))


def test_a_layer_that_does_not_exist_is_refused() -> None:
    (fault,) = KMeansConfig(layer=3).check_compatibility({"teacher_layers": 2})
    assert fault == "`layer` must be `last` or one of 0 to 2, but is 3"
    assert KMeansConfig(layer=2).check_compatibility({"teacher_layers": 2}) == []
    assert KMeansConfig(layer="last").check_compatibility({"teacher_layers": 2}) == []
    assert KMeansConfig(layer=3).check_compatibility({}) == []
    with pytest.raises(PluginError, match="`layer` must be `last` or one of 0 to 2, but is 3"):
        tokenizer(teacher=True, layer=3).fit(iter(batches(clustered()[0])))
    with pytest.raises(PluginError, match="needs a teacher, because it clusters `layer: 1`"):
        tokenizer(layer=1)
