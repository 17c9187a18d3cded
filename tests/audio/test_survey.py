"""The survey finds one bad recording of each kind, and no fault in good ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ossicle.audio.corpora.folder import FolderCorpus
from ossicle.audio.corpora.table import CsvCorpus
from ossicle.audio.corpus_config import CsvConfig, FolderConfig, SurveyRules
from ossicle.audio.decode import open_sound
from ossicle.audio.frame_statistics import FrameStatistics
from ossicle.audio.survey import REASONS, Survey, clipped_share, survey
from ossicle.core.errors import CorpusError
from ossicle.core.manifest import Manifest

RATE = 16000


def noise(seconds: float = 1.0, peak: float = 0.5) -> np.ndarray:
    return np.random.default_rng(0).uniform(-peak, peak, round(seconds * RATE)).astype(np.float32)


def cut(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * keep)])


def write_good(root: Path) -> None:
    soundfile.write(root / "good.wav", noise(), RATE)
    soundfile.write(root / "good.flac", noise(), RATE)
    soundfile.write(root / "good_stereo.ogg", np.stack([noise(), noise()], axis=1), RATE)
    soundfile.write(root / "good_loud.wav", noise(peak=0.9999), RATE)
    soundfile.write(root / "good_faint.wav", noise(peak=0.005), RATE)


def write_bad(root: Path) -> dict[str, str]:
    """Write one bad file of each kind below `root`. Returns the expected reason by name."""
    (root / "text.wav").write_text("this is text")
    soundfile.write(root / "no_samples.wav", noise(0.0), RATE)
    soundfile.write(root / "short.wav", noise(0.02), RATE)
    soundfile.write(root / "zeros.wav", np.zeros(RATE), RATE)
    soundfile.write(root / "whisper.wav", noise(peak=0.0005), RATE)
    soundfile.write(root / "square.wav", np.clip(4 * noise(), -1, 1), RATE)
    poisoned = noise()
    poisoned[100] = np.nan
    soundfile.write(root / "nan.wav", poisoned, RATE, subtype="FLOAT")
    for name in ("half.wav", "half.aiff", "half.flac"):
        soundfile.write(root / name, noise(), RATE)
        cut(root / name, 0.5)
    soundfile.write(root / "gone.wav", noise(), RATE)
    return {
        "text.wav": "unreadable",
        "no_samples.wav": "empty",
        "short.wav": "too_short",
        "zeros.wav": "silent",
        "whisper.wav": "silent",
        "square.wav": "clipped",
        "nan.wav": "non_finite",
        "half.wav": "truncated",
        "half.aiff": "truncated",
        "half.flac": "truncated",
        "gone.wav": "missing",
    }


def survey_bad(root: Path) -> tuple[Manifest, Survey, dict[str, str]]:
    expected = write_bad(root)
    write_good(root)
    manifest = FolderCorpus(FolderConfig(path=root)).manifest()
    (root / "gone.wav").unlink()
    return manifest, survey(manifest, SurveyRules(), RATE), expected


def test_finds_one_bad_file_of_each_kind_and_keeps_the_good_ones(tmp_path: Path) -> None:
    manifest, found, expected = survey_bad(tmp_path)

    reasons = {file.path: file.reason for file in found.bad}
    # A truncated flac may fail to decode instead of being too short. Both are correct.
    assert reasons.pop("half.flac") in {"truncated", "unreadable"}
    del expected["half.flac"]
    assert reasons == expected
    assert set(expected.values()) == set(REASONS)
    assert all(str(path).startswith("good") for path in manifest.paths[found.good])
    assert found.hours == {"train": pytest.approx(5 / 3600)}


def test_every_recording_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bad(tmp_path)
    write_good(tmp_path)
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    opened: Counter[Path] = Counter()

    def counted(path: Path) -> AbstractContextManager[soundfile.SoundFile]:
        opened[path] += 1
        return open_sound(path)

    monkeypatch.setattr("ossicle.audio.survey.open_sound", counted)
    survey(manifest, SurveyRules(), 8000, on_clip=lambda row, waveform: None)
    assert set(opened.values()) == {1}
    assert len(opened) == len(manifest)


def test_passes_on_each_good_waveform_once_in_order(tmp_path: Path) -> None:
    write_bad(tmp_path)
    write_good(tmp_path)
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    seen: list[tuple[int, int]] = []
    progress: list[tuple[int, int]] = []

    found = survey(
        manifest,
        SurveyRules(),
        8000,
        on_clip=lambda row, waveform: seen.append((row, len(waveform))),
        progress=lambda done, total: progress.append((done, total)),
    )

    assert [row for row, _ in seen] == [*found.good.tolist()]
    assert {length for _, length in seen} == {8000}
    assert progress == [(done, len(manifest)) for done in range(1, len(manifest) + 1)]


def test_a_declared_duration_finds_truncation_that_the_header_does_not_show(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    soundfile.write(tmp_path / "b.wav", noise(1.0), RATE)
    (tmp_path / "clips.csv").write_text("path,seconds\na.wav,1.0\nb.wav,2.5\n")
    corpus = CsvCorpus(CsvConfig(path=tmp_path / "clips.csv", duration_column="seconds"))

    found = survey(corpus.manifest(), SurveyRules(), RATE, declared_seconds=corpus.declared_seconds())

    assert [(file.path, file.reason) for file in found.bad] == [("b.wav", "truncated")]
    assert "1.000 s of the 2.500 s stated" in found.bad[0].detail


def test_a_streamed_wav_without_a_size_is_not_truncated(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, noise(), RATE)
    data = bytearray(path.read_bytes())
    chunk = data.index(b"data")
    data[4:8] = data[chunk + 4 : chunk + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))

    assert not survey(FolderCorpus(FolderConfig(path=tmp_path)).manifest(), SurveyRules(), RATE).bad


def test_too_many_bad_files_stop_with_reasons_and_remedy(tmp_path: Path) -> None:
    _, found, _ = survey_bad(tmp_path)

    found.raise_if_too_many(0.9)
    with pytest.raises(
        CorpusError, match=r"11 of 16 recordings \(68\.8%\).*allowed: 10\.0% \(`max_bad_share`\)"
    ) as caught:
        found.raise_if_too_many(0.1)
    assert "silent: 2, `whisper.wav` peak -66 dBFS" in str(caught.value)
    assert "relax the survey's rules" in str(caught.value)


def test_bad_files_are_written_one_per_line(tmp_path: Path) -> None:
    _, found, expected = survey_bad(tmp_path)
    found.write_bad_files(tmp_path / "bad_files.jsonl")

    lines = [json.loads(line) for line in (tmp_path / "bad_files.jsonl").read_text().splitlines()]

    assert {line["path"] for line in lines} == expected.keys()
    assert all(line["detail"] for line in lines)
    assert sum(found.counts.values()) == len(lines)


def test_clipped_share_agrees_with_a_slow_count() -> None:
    rng = np.random.default_rng(1)
    samples = np.clip(rng.normal(0, 1.2, (400, 2)), -1, 1).astype(np.float32)
    samples[:, 1] = np.sort(samples[:, 1])

    slow = 0
    for channel in samples.T:
        start = 0
        for end in range(1, len(channel) + 1):
            if end == len(channel) or channel[end] != channel[start]:
                slow += end - start if end - start >= 3 and abs(channel[start]) >= 0.999 else 0
                start = end
    assert slow > 0
    assert clipped_share(samples) == pytest.approx(slow / samples.size)
    assert clipped_share(samples[:2]) == 0.0


@pytest.mark.parametrize("stretch", [1 / RATE, 3 / RATE, 0.0137, 0.3])
def test_reading_in_stretches_finds_the_same_faults_as_reading_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretch: float
) -> None:
    write_bad(tmp_path)
    write_good(tmp_path)
    # Runs at full scale that begin at, end at and cross the borders of stretches. About a tenth of the samples.
    rng = np.random.default_rng(3)
    flat = noise(0.2)
    for start in rng.integers(0, len(flat) - 9, 60):
        flat[start : start + rng.integers(1, 9)] = rng.choice([-1, 1])
    soundfile.write(tmp_path / "runs.wav", np.stack([flat, np.roll(flat, 7)], axis=1), RATE, subtype="FLOAT")
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()
    # The truncated flac has another fault when it is read sample by sample.
    manifest = manifest.take(np.flatnonzero(manifest.paths != "half.flac"))
    rows = {str(path): row for row, path in enumerate(manifest.paths)}
    if stretch < 0.001:  # a few samples at a time are slow
        manifest = manifest.take(np.array([rows["runs.wav"], rows["short.wav"]]))
    rules = SurveyRules(max_clipped_share=0.0)
    whole = survey(manifest, rules, RATE)

    monkeypatch.setattr("ossicle.audio.survey.STRETCH_SECONDS", stretch)
    pieces: dict[int, list[np.ndarray]] = {}
    found = survey(manifest, rules, RATE, on_clip=lambda row, waveform: pieces.setdefault(row, []).append(waveform))

    assert found.bad == whole.bad
    assert any("% of the samples are flat" in file.detail for file in found.bad)
    assert found.good.tolist() == whole.good.tolist() == sorted(pieces)
    assert found.hours == pytest.approx(whole.hours)
    for row, parts in pieces.items():
        samples, _ = soundfile.read(manifest.path(row), dtype="float32", always_2d=True)
        np.testing.assert_array_equal(np.concatenate(parts), samples.mean(axis=1))
        assert max(map(len, parts)) <= max(1, round(stretch * RATE))


def test_no_stretch_of_a_long_recording_is_longer_than_a_minute(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.tile(noise(1.0), 150), RATE)
    lengths: list[int] = []
    found = survey(
        FolderCorpus(FolderConfig(path=tmp_path)).manifest(),
        SurveyRules(),
        8000,
        on_clip=lambda _, waveform: lengths.append(len(waveform)),
    )
    assert lengths == [480000, 480000, 240000]
    assert found.hours == {"train": pytest.approx(150 / 3600)}


def test_a_flac_without_a_stated_length_is_unreadable(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "piped.flac", noise(), RATE)
    data = bytearray((tmp_path / "piped.flac").read_bytes())
    data[21] &= 0xF0  # the 36 bits of the number of samples
    data[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(bytes(data))

    (file,) = survey(FolderCorpus(FolderConfig(path=tmp_path)).manifest(), SurveyRules(), RATE).bad

    assert file.reason == "unreadable"
    assert "states no length" in file.detail


def test_a_table_may_name_a_pipe_without_blocking(pipe: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    (tmp_path / "clips.csv").write_text(f"path\na.wav\n{pipe.name}\n/dev/null\n")

    found = survey(CsvCorpus(CsvConfig(path=tmp_path / "clips.csv")).manifest(), SurveyRules(), RATE)

    assert found.good.tolist() == [0]
    assert [(file.path, file.reason) for file in found.bad] == [(pipe.name, "unreadable"), ("/dev/null", "unreadable")]
    assert "is a named pipe, not a regular file" in found.bad[0].detail


def test_a_header_of_one_hertz_is_unreadable_and_not_resampled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.tile(noise(), 10), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = (1).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(bytes(data))
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()

    (file,) = survey(manifest, SurveyRules(), RATE, on_clip=lambda row, waveform: pytest.fail("resampled")).bad

    assert manifest.seconds.tolist() == [0]
    assert file.reason == "unreadable"
    assert "states a sample rate of 1 Hz; allowed: 1,000 to 768,000 Hz" in file.detail


def test_a_damaged_mp3_is_listed_once_and_used_if_enough_of_it_can_be_read(
    tmp_path: Path, write_damaged_mp3: Callable[[Path, int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    for name, zeros in {"a": 0, "b": 200, "c": 0, "d": 4000, "e": 900, "f": 0}.items():
        write_damaged_mp3(tmp_path / f"{name}.mp3", zeros)
    manifest = FolderCorpus(FolderConfig(path=tmp_path)).manifest()

    found = survey(manifest, SurveyRules(), 8000, on_clip=lambda row, waveform: None)
    found.write_bad_files(tmp_path / "bad_files.jsonl")

    assert capfd.readouterr() == ("", "")
    assert manifest.paths[found.good].tolist() == ["a.mp3", "b.mp3", "c.mp3", "f.mp3"]
    found.raise_if_too_many(2 / 6)
    lines = [json.loads(line) for line in (tmp_path / "bad_files.jsonl").read_text().splitlines()]
    note = r"the decoder printed \d+ lines, the first: Note: Illegal Audio-MPEG-Header 0x00000000 at offset \d+"
    expected = [
        ("d.mp3", "unreadable", rf"`.*d\.mp3` cannot be decoded: .* Before that, {note}"),
        ("e.mp3", "truncated", rf"9\.\d+ s of the 10\.000 s stated; {note}"),
        ("b.mp3", "damaged", rf"used; {note}"),
    ]
    assert [(line["path"], line["reason"]) for line in lines] == [(path, reason) for path, reason, _ in expected]
    assert all(re.match(detail, line["detail"]) for line, (_, _, detail) in zip(lines, expected, strict=True))


def test_a_long_mp3_without_damage_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE)
    soundfile.write(tmp_path / "a.mp3", tone, RATE)
    monkeypatch.setattr("ossicle.audio.survey.STRETCH_SECONDS", 0.3)

    found = survey(FolderCorpus(FolderConfig(path=tmp_path)).manifest(), SurveyRules(), RATE)

    assert (found.bad, found.damaged) == ([], [])


def test_statistics_in_one_pass_equal_those_of_all_frames_at_once() -> None:
    frames = torch.randn(500, 8) * torch.arange(1, 9) + 1000.0
    statistics = FrameStatistics()
    for part in frames.split([0, 1, 7, 200, 292]):
        statistics.add(part)
    assert statistics.count == 500
    torch.testing.assert_close(statistics.mean, frames.double().mean(0))
    torch.testing.assert_close(statistics.std, frames.double().std(0, correction=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdd_digits", "philharmonia_notes"])
def test_finds_no_fault_in_real_recordings(shared_data: Path, name: str) -> None:
    corpus = CsvCorpus(CsvConfig(path=shared_data / name / "metadata.csv", duration_column="duration_s"))
    manifest = corpus.manifest()
    some = np.arange(0, len(manifest), 10)
    declared = corpus.declared_seconds()
    assert declared is not None

    assert survey(manifest.take(some), SurveyRules(), RATE, declared_seconds=declared[some]).bad == []
