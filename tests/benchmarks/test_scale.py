"""Costs that grow with a corpus, counted in calls and bytes, because times vary."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from forked import forking

from ossicle.audio.front_end_config import KaldiFbankConfig
from ossicle.audio.kaldi_fbank import KaldiFbank
from ossicle.benchmarks import scale
from ossicle.benchmarks.ranks import rank_costs
from ossicle.benchmarks.scale import first_batch, growth, silent_recordings, simulated
from ossicle.core.manifest import Manifest
from ossicle.tasks.evaluation.protocols import protocols

FRONT_END = KaldiFbank(KaldiFbankConfig(mel_bins=16))
SIZES = (3_000, 12_000, 48_000)


def open_training(manifest: Manifest) -> object:
    with silent_recordings():
        return first_batch(manifest, FRONT_END)


WORKS: dict[str, Callable[[Manifest], object]] = {
    "making": lambda manifest: simulated(len(manifest)),
    "fingerprint": Manifest.fingerprint,
    "splits": lambda manifest: manifest.take(manifest.rows_in("train", "valid")),
    "training": open_training,
    "protocols": lambda manifest: protocols(manifest),
}


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def calls(work: Callable[[], object]) -> int:
    """Count the calls of Python and C functions."""
    count = 0

    def record(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(record)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_nothing_grows_faster_than_the_corpus(name: str) -> None:
    work = WORKS[name]
    manifests = [simulated(clips, classes=8) for clips in SIZES]
    work(manifests[0])
    for cost in (peak_bytes, calls):
        costs = [cost(lambda manifest=manifest: work(manifest)) for manifest in manifests]
        assert growth(SIZES, costs) < 1.15, (cost.__name__, costs)


def result_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    result = work()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return size


@pytest.mark.slow
def test_a_clip_takes_few_bytes_and_not_a_separate_object() -> None:
    more_clips = SIZES[2] - SIZES[1]
    small, large = (result_bytes(lambda clips=clips: simulated(clips)) for clips in SIZES[1:])
    assert large - small < 100 * more_clips
    small, large = (peak_bytes(lambda clips=clips: open_training(clips)) for clips in map(simulated, SIZES[1:]))
    assert large - small < 150 * more_clips


def test_growth_detects_quadratic_costs() -> None:
    def quadratic(manifest: Manifest) -> object:
        return manifest.frames[:, None] < manifest.frames[None, :]

    sizes = (200, 400, 800)
    costs = [peak_bytes(lambda clips=clips: quadratic(simulated(clips))) for clips in sizes]
    assert growth(sizes, costs) > 1.15


@pytest.mark.slow
def test_measurements_are_rows() -> None:
    (row,) = scale.rows(scale.corpus_costs([100]))
    assert list(row) == ["clips", "manifest_mib", "fingerprint_seconds", "first_batch_seconds", "first_batch_mib"]
    assert all(row["share"] < 0.06 for row in scale.rows(scale.padding_shares(1500, batches=4)))


@pytest.mark.slow
def test_processes_share_the_work_and_wait_for_the_largest_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ossicle.benchmarks.ranks.get_context", lambda method: forking())
    (cost,) = rank_costs((2,), steps=2)
    assert cost.ranks == 2
    assert 0 < cost.waiting < 0.2
    assert 0 <= cost.padding < 0.06
    assert cost.cpu_seconds > 0
