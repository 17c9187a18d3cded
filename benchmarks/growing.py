"""Tables of how costs grow with clips, batches, corpora, ranks and recordings, from `scale` and `ranks`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..checkpoints.writing import release_encoder
from . import scale
from .inference_works import encoder, front_end
from .ranks import rank_costs


@dataclass(frozen=True)
class Growth:
    """A table of costs against sizes.

    Attributes:
        title: the cost and the size
        rows: the values of each row by column name
    """

    title: str
    rows: Sequence[Mapping[str, Any]]


def growths() -> Iterator[Growth]:
    """Measure and yield one table after the other, with a tiny encoder."""
    made, bands = encoder("tiny").cpu(), front_end().bands
    yield Growth("encoder against the length of a clip", scale.rows(scale.cost_by_length(made, bands)))
    yield Growth("encoder against the number of clips", scale.rows(scale.cost_by_batch(made, bands)))
    yield Growth("corpus against its clips, simulated", scale.rows(scale.corpus_costs()))
    yield Growth("padding of batches of mixed lengths", scale.rows(scale.padding_shares()))
    yield Growth("a training step against its processes (ranks)", scale.rows(rank_costs()))
    with TemporaryDirectory() as folder:
        part = Path(folder, "tiny.pt")
        torch.save(release_encoder(made, front_end()).content, part)
        yield Growth("`ossicle embed` against the length of a recording", scale.rows(scale.recording_costs(part)))
