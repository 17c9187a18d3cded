"""Token statistics: how many codes are in use, and how much a token says about a clip's class and a patch's position.

Notable choices:

- Normalised mutual information is never zero on finite data, in particular if all patches of a clip share its class. It
  is therefore reported together with its chance level, measured with the classes shuffled over the clips.
- If a tokenizer gives a patch several tokens, every figure is the mean over these streams, each measured separately.
  Measured jointly, few patches would share a label, and the labels would identify every position and class.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import normalized_mutual_info_score

from ...audio.patch_batches import patch_batches
from ...audio.survey import good_rows
from ...core.corpus import SPLITS, TRAIN, UNLABELLED
from ...core.distributed import compute_device
from ...core.interfaces import FrontEnd, Tokenizer
from ...core.manifest import Manifest
from ...core.parts import load_part
from ...core.stage_runner import StageRun
from ...core.store import Artifact
from .specs import TokensStage

SHUFFLES = 5
BATCH_SECONDS = 64.0
FILE = "tokens.json"


@dataclass(frozen=True)
class TokenStatistics:
    """Statistics of one tokenizer on clips that it may have learnt from. Shares of information are in [0, 1].

    Attributes:
        codebook_size: K
        streams: G, tokens of a patch
        used: number of codes that occur, rounded
        perplexity: number of equally frequent codes with the same entropy
        label_information: normalised mutual information (arithmetic mean) of token and class; None without classes
        label_chance: mean of the same with the classes shuffled over the clips
        position_information: normalised mutual information of token and position in the grid
        column_information: normalised mutual information of token and time column
        band_information: normalised mutual information of token and frequency band
        clips: number of clips measured
    """

    codebook_size: int
    streams: int
    used: int
    perplexity: float
    label_information: float | None
    label_chance: float | None
    position_information: float
    column_information: float
    band_information: float
    clips: int


def measure(run: StageRun[TokensStage]) -> None:
    """Write `tokens.json`, the statistics of the tokenizer. With several streams it also lists those of each."""
    tokens, clips, bands, size = _tokens(run)
    each = [
        token_statistics(list(stream), clips, bands=bands, codebook_size=size, seed=run.stage.seed)
        for stream in zip(*(ids.T for ids in tokens), strict=True)
    ]
    figures = asdict(mean_statistics(each))
    by_stream = {"by_stream": [asdict(one) for one in each]} if len(each) > 1 else {}
    (run.folder / FILE).write_text(json.dumps({**run.stage.tags, **figures, **by_stream}, indent=2))
    run.metrics |= {name: value for name, value in figures.items() if value is not None}


def mean_statistics(streams: Sequence[TokenStatistics]) -> TokenStatistics:
    """Average the statistics of a tokenizer's streams on the same clips."""
    return replace(
        streams[0],
        streams=len(streams),
        used=round(fmean(one.used for one in streams)),
        perplexity=fmean(one.perplexity for one in streams),
        label_information=_mean([one.label_information for one in streams]),
        label_chance=_mean([one.label_chance for one in streams]),
        position_information=fmean(one.position_information for one in streams),
        column_information=fmean(one.column_information for one in streams),
        band_information=fmean(one.band_information for one in streams),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def token_statistics(
    tokens: list[npt.NDArray[np.int64]], clips: Manifest, *, bands: int, codebook_size: int, seed: int
) -> TokenStatistics:
    """Measure one stream of tokens.

    Args:
        tokens: the tokens of each clip's real patches, time-major
        clips: the clips, in the same order
        bands: patches per time column
    """
    ids = np.concatenate(tokens)
    counts = np.bincount(ids, minlength=codebook_size)
    share = counts[counts > 0] / counts.sum()
    position = np.concatenate([np.arange(len(clip)) for clip in tokens])
    label, chance = _label_information(tokens, clips, ids, seed)
    return TokenStatistics(
        codebook_size=codebook_size,
        streams=1,
        used=int((counts > 0).sum()),
        perplexity=math.exp(-float((share * np.log(share)).sum())),
        label_information=label,
        label_chance=chance,
        position_information=float(normalized_mutual_info_score(position, ids)),
        column_information=float(normalized_mutual_info_score(position // bands, ids)),
        band_information=float(normalized_mutual_info_score(position % bands, ids)),
        clips=len(tokens),
    )


def _label_information(
    tokens: list[npt.NDArray[np.int64]], clips: Manifest, ids: npt.NDArray[np.int64], seed: int
) -> tuple[float | None, float | None]:
    if clips.multi_label or len(clips.label_names) < 2 or not clips.labels.counts.all():
        return None, None
    classes = np.array([labels[0] for labels in clips.labels])
    lengths = [len(clip) for clip in tokens]

    def information(of_clips: npt.NDArray[np.int64]) -> float:
        return float(normalized_mutual_info_score(np.repeat(of_clips, lengths), ids))

    generator = np.random.default_rng(seed)
    shuffled = [information(generator.permutation(classes)) for _ in range(SHUFFLES)]
    return information(classes), float(np.mean(shuffled))


def _training_rows(survey: Artifact, manifest: Manifest) -> npt.NDArray[np.int64]:
    """Return the training clips with known classes, or without any the other clips that pre-training may use."""
    rows = good_rows(survey, manifest, (TRAIN,))
    if manifest.label_names and not manifest.multi_label:
        rows = rows[manifest.labels.counts[rows] > 0]
    if not rows.size:
        rows = good_rows(survey, manifest, (TRAIN, UNLABELLED))
    return rows if rows.size else good_rows(survey, manifest, SPLITS)


@torch.inference_mode()
def _tokens(run: StageRun[TokensStage]) -> tuple[list[npt.NDArray[np.int64]], Manifest, int, int]:
    source, catalog = run.inputs["tokenizer"], run.plugins.catalog
    front_end = load_part(source, "front_end", FrontEnd, catalog)
    tokenizer = load_part(source, "tokenizer", Tokenizer, catalog).to(compute_device())
    manifest = run.manifest()
    rows = _training_rows(run.inputs["survey"], manifest)
    found: dict[int, npt.NDArray[np.int64]] = {}
    crop_seconds = run.stage.crop_seconds
    for batch in patch_batches(manifest, rows, front_end, batch_seconds=BATCH_SECONDS, crop_seconds=crop_seconds):
        tokens = tokenizer.tokenize(batch)
        for row, ids, valid in zip(batch.rows, tokens.by_stream.cpu(), tokens.valid.cpu(), strict=True):
            found[row] = ids[valid].numpy()
    order = np.array(sorted(found), dtype=np.int64)
    return [found[row] for row in order], manifest.take(order), front_end.bands, tokenizer.codebook_size
