"""What grows with clips, batches, corpora, ranks and recordings, as tables: the measurements of `scale` and `ranks`."""

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
    """One table: a cost against a size.

    Attributes:
        title: says what grows with what
        rows: each a figure under every name
    """

    title: str
    rows: Sequence[Mapping[str, Any]]


def growths() -> Iterator[Growth]:
    """Measure one after the other; the encoder is a tiny one."""
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
