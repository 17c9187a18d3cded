"""The classifier of pooled bands: its input is a view of the probes, and it learns from clips of one column, too."""

from __future__ import annotations

import pytest
import torch

from ossicle.core.build import build
from ossicle.core.choices import PartChoice
from ossicle.core.data import Encoded, Grid
from ossicle.core.interfaces import Head
from ossicle.core.plugin_loading import load_plugins
from ossicle.encoders.pooling import encoded_views

BANDS, WIDTH, CLASSES = 3, 4, 5


def head(view: str, *, standardise: bool = False) -> Head:
    settings = {"view": view, "standardise": standardise}
    choice = PartChoice.of(load_plugins().catalog.get("head", "pooled"), settings)
    return build(choice, Head, seed=0, width=WIDTH, classes=CLASSES, bands=BANDS)


def clips(*columns: int) -> Encoded:
    generator = torch.Generator().manual_seed(0)
    sequence = torch.randn(len(columns), max(columns) * BANDS, WIDTH, generator=generator, requires_grad=True)
    valid = torch.arange(max(columns) * BANDS) < torch.tensor(columns)[:, None] * BANDS
    return Encoded(sequence, valid, Grid(max(columns), BANDS))


@pytest.mark.parametrize("view", ["bands", "bands+std"])
def test_scores_the_view_and_learns_from_every_clip(view: str) -> None:
    made, encoded = head(view), clips(1, 4)
    logits = made(encoded)
    torch.testing.assert_close(logits, made.linear(encoded_views(encoded)[view]))
    logits.square().sum().backward()
    gradient = encoded.sequence.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert (gradient.abs().sum(-1) > 0).tolist() == encoded.valid.tolist()


def test_separates_sounds_in_different_bands() -> None:
    """The mean over all patches cannot separate these clips, because it is equal."""
    made = head("bands")
    low, high = torch.zeros(1, BANDS, WIDTH), torch.zeros(1, BANDS, WIDTH)
    low[:, 0], high[:, -1] = 1.0, 1.0
    whole = torch.ones(1, BANDS, dtype=torch.bool)
    low_scores, high_scores = (made(Encoded(clip, whole, Grid(1, BANDS))) for clip in (low, high))
    assert (low_scores - high_scores).abs().max() > 0.1


def test_standardising_removes_what_all_clips_share() -> None:
    made, plain = head("bands", standardise=True), head("bands")
    made.linear.load_state_dict(plain.linear.state_dict())
    encoded = clips(2, 4, 3, 4)
    loud = Encoded(1000 + 50 * encoded.sequence, encoded.valid, encoded.grid)
    scores = made(loud)
    torch.testing.assert_close(scores, made(encoded), atol=2e-3, rtol=0)
    torch.testing.assert_close(scores.mean(0), made.linear.bias, atol=1e-4, rtol=0)
    assert (plain(loud) - plain(encoded)).abs().max() > 100


def test_standardised_scores_do_not_depend_on_the_batch_after_training() -> None:
    made = head("bands", standardise=True)
    for _ in range(100):
        made(clips(4, 4, 4))
    # A batch of one clip has no variance, so even in training it uses the running statistics.
    single = made(clips(4))
    made.eval()
    torch.testing.assert_close(single, made(clips(4, 4, 4))[:1])
    torch.testing.assert_close(single, made(clips(4)))
