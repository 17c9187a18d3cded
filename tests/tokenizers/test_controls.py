"""Labels that hold only the place."""

from __future__ import annotations

import torch

from ossicle.core.data import Grid, PatchBatch
from ossicle.tokenizers.controls import Place
from ossicle.tokenizers.settings import PlaceConfig


def test_a_place_has_one_label_whatever_it_sounds_like() -> None:
    tokenizer = Place(PlaceConfig(columns=3), bands=2)
    batch = PatchBatch(torch.randn(2, 10, 7), torch.ones(2, 10, dtype=torch.bool), Grid(5, 2))
    ids = tokenizer.tokenize(batch).ids
    assert ids.tolist() == [[0, 1, 2, 3, 4, 5, 4, 5, 4, 5]] * 2, "columns beyond the last share its labels"
    assert tokenizer.codebook_size == 6
