"""The action of the survey stage: find bad recordings and measure the front end's statistics in one pass."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from ..core.build import build
from ..core.interfaces import FrontEnd
from ..core.parts import save_part
from ..core.stage_runner import StageRun
from .corpus_config import SurveyRules
from .frame_statistics import FrameStatistics
from .stage_specs import SurveyStage
from .survey import GOOD_ROWS, Survey, survey


def run_survey(run: StageRun[SurveyStage]) -> None:
    """Write the list of good rows, the bad files, a summary, and the front end with the corpus's statistics.

    Raises:
        CorpusError: if too large a share of the recordings is bad
    """
    stage = run.stage
    manifest = run.manifest()
    corpus = run.corpora.corpus(stage.corpus)
    front_end = build(stage.front_end, FrontEnd, seed=stage.seed)
    measured = np.isin(manifest.splits, stage.statistics_of)
    statistics = FrameStatistics()
    transform = front_end.transform

    def measure(row: int, waveform: npt.NDArray[np.float32]) -> None:
        if measured[row]:
            statistics.add(front_end.spectrogram(torch.from_numpy(waveform), transform=transform))

    rules = SurveyRules(max_bad_share=stage.max_bad_share)
    run.display.start(stage.name, len(manifest))
    found = survey(
        manifest,
        rules,
        front_end.sample_rate,
        on_clip=measure,
        progress=lambda done, _: run.display.advance(done),
        declared_seconds=corpus.declared_seconds(),
    )
    run.display.finish()
    found.write_bad_files(run.folder / "bad_files.jsonl")
    for message in _messages(found, stage.tags["corpus"]):
        run.display.warn(message)
        run.warnings.append(message)
    found.raise_if_too_many(rules.max_bad_share)
    if statistics.count:
        if not front_end.brings_statistics:
            front_end.set_statistics(statistics.mean, statistics.std)
        run.parts["front_end"] = save_part(run.folder, "front_end", front_end)
    np.save(run.folder / GOOD_ROWS, found.good)
    summary = {
        **stage.tags,
        "clips": {split: int((manifest.splits[found.good] == split).sum()) for split in found.hours},
        "hours": found.hours,
        "bad": dict(found.counts),
        "damaged": len(found.damaged),
        "fingerprint": run.corpora.fingerprint(stage.corpus),
        "card": corpus.card(),
    }
    if statistics.count:
        summary |= {"mean": statistics.mean.tolist(), "std": statistics.std.tolist()}
    (run.folder / "survey.json").write_text(json.dumps(summary, indent=2))
    run.metrics |= {"clips": len(found.good), "bad": len(found.bad)}


def _messages(found: Survey, corpus: str) -> Iterator[str]:
    if found.bad:
        counts = ", ".join(f"{count} {reason}" for reason, count in found.counts.items())
        yield f"{corpus}: left out {counts} of {found.clips} recordings; see bad_files.jsonl"
    if found.damaged:
        count = len(found.damaged)
        yield f"{corpus}: {count} of {found.clips} recordings are damaged but used; see bad_files.jsonl"
