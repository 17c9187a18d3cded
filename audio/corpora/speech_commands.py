"""Speech Commands: single spoken words of at most a second (Warden, 2018, arXiv 1804.03209).

v0.02 has a class for each of its 35 words ("KS2"). v0.01 is read in the 12 classes of keyword spotting ("KS1"): ten
words, all others as `_unknown_`, and background noise as `_silence_`. The splits of both are those of the archive's
`validation_list.txt` and `testing_list.txt`.

Notable choices for KS1, compared with SUPERB (arXiv 2105.01051, its toolkit s3prl):

- Order and names of the classes are those of SUPERB. Its hash of the speaker gives the same splits as the two lists.
- Papers report on the separate test archive, which has clips of silence, and do not use the clips of
  `testing_list.txt`. Set `test_path` to the folder of that archive to do the same.
- SUPERB cuts each of the six noise recordings into successive seconds and uses all of them for both training and
  validation. Here the first 80 % of a recording's seconds are for training and the next 10 % for validation. The last
  10 % are for testing if there is no `test_path`, else they are unused.
- Each second of noise is written to a file in the cache, because every clip needs a file. The cache also has links to
  the archives, so all clips are below one folder.
- SUPERB draws training clips so that classes are balanced, and lowers the level by 3 dB. This reader does neither.
"""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import soundfile

from ...core.config import Config
from ...core.corpus import TEST, TRAIN, VALID
from ...core.errors import CorpusError
from ...core.manifest import Manifest
from ..published_corpus_config import SpeechCommandsV1Config, SpeechCommandsV2Config
from .published import Listing, PublishedCorpus, listed_file, names_in
from .rendering import SAMPLE_RATE, RenderedClip, RenderedCorpus, write_clip

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
KS1_CLASSES = (*KEYWORDS, UNKNOWN, SILENCE)
V1_WORDS = tuple(
    sorted(
        (
            *KEYWORDS,
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
            *("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"),
        )
    )
)
V2_WORDS = tuple(sorted((*V1_WORDS, "backward", "follow", "forward", "learn", "visual")))
NOISE = "_background_noise_"
NOISES = ("doing_the_dishes", "dude_miaowing", "exercise_bike", "pink_noise", "running_tap", "white_noise")

_LISTS = {VALID: "validation_list.txt", TEST: "testing_list.txt"}
_CLIP = re.compile(r"[a-z]+/[0-9a-f]{8}_nohash_\d+\.wav")
_ARCHIVE, _TEST_ARCHIVE = "archive", "test_archive"


class SpeechCommandsCorpus(PublishedCorpus):
    """Base class of both versions: a folder for each word, and the two lists."""

    source = "https://arxiv.org/abs/1804.03209"
    license = "CC BY 4.0"
    words: ClassVar[tuple[str, ...]]
    label_names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def add(self, listing: Listing, path: str, word: str, split: str) -> None:
        """Add one clip of the archive to the listing."""

    def read(self) -> Listing:
        """Read both lists and the names in the folders of the words."""
        listing = Listing(label_names=self.label_names)
        unknown = {name for name in names_in(self.path) if (self.path / name).is_dir()} - {*self.words, NOISE}
        if unknown:
            names = ", ".join(f"`{name}`" for name in sorted(unknown))
            listing.problems.append(
                f"`{self.path}` contains folders that {self.title} does not have: {names}. Remove them, or choose the "
                "other version of the corpus."
            )
        listed = self._listed(listing.problems)
        there = [f"{word}/{name}" for word in self.words for name in names_in(self.path / word, ".wav")]
        for path in there:
            if _CLIP.fullmatch(path):
                self.add(listing, path, path.split("/")[0], listed.get(path, TRAIN))
            else:
                message = f"`{self.path / path}` is not named SPEAKER_nohash_NUMBER.wav; remove it from the corpus."
                listing.problems.append(message)
        listing.missing += sorted(listed.keys() - set(there))
        return listing

    def _listed(self, problems: list[str]) -> dict[str, str]:
        """Read the split of every clip that one of the lists names."""
        splits: dict[str, str] = {}
        first_lines: dict[str, str] = {}
        for split, name in _LISTS.items():
            path = listed_file(self.path / name, self.remedy)
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
                where, clip = f"{path}:{number}", line.strip()
                if not clip:
                    continue
                if not _CLIP.fullmatch(clip):
                    problems.append(f"{where}: `{clip}` is not a clip; expected WORD/SPEAKER_nohash_NUMBER.wav.")
                elif (first := first_lines.setdefault(clip, where)) != where:
                    problems.append(f"{where}: `{clip}` is already listed at {first}; keep one of them.")
                else:
                    splits[clip] = split
        return splits


class SpeechCommandsV2Corpus(SpeechCommandsCorpus):
    """Speech Commands v0.02: 35 words in alphabetical order, with the splits of the archive's lists."""

    title = "Speech Commands v0.02"
    remedy = (
        "Download http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz (2.4 GB), unpack it into an empty "
        "folder, and set `path` to that folder."
    )
    words = V2_WORDS
    label_names = V2_WORDS
    expected: ClassVar[Mapping[str, int]] = {TRAIN: 84_843, VALID: 9_981, TEST: 11_005}

    def __init__(self, config: SpeechCommandsV2Config) -> None:
        super().__init__(config.path, partial=config.partial)
        self.config = config

    def add(self, listing: Listing, path: str, word: str, split: str) -> None:
        """Label a clip by its word."""
        listing.add(path, (V2_WORDS.index(word),), split=split, groups=(split,))


class SpeechCommandsV1Corpus(SpeechCommandsCorpus):
    """Speech Commands v0.01 in 12 classes: ten words, `_unknown_` for the other twenty, and `_silence_`."""

    title = "Speech Commands v0.01"
    remedy = (
        "Download http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz (1.5 GB) for `path` and "
        "http://download.tensorflow.org/data/speech_commands_test_set_v0.01.tar.gz for `test_path`, and unpack "
        "each into an empty folder."
    )
    words = V1_WORDS
    label_names = KS1_CLASSES
    expected: ClassVar[Mapping[str, int]] = {
        TRAIN: 51_088,
        VALID: 6_798,
        "testing_list.txt": 6_835,
        "noise recordings": 6,
        "test archive": 3_081,
    }

    def __init__(self, config: SpeechCommandsV1Config) -> None:
        super().__init__(config.path, partial=config.partial)
        self.config = config

    def official(self) -> Mapping[str, int]:
        """Return the official number of clips of each group in use."""
        unused = {"test archive"} if self.config.test_path is None else set()
        return {group: number for group, number in self.expected.items() if group not in unused}

    def problems(self) -> list[str]:
        """List the problems of both archives, without opening recordings."""
        test_path = self.config.test_path
        if test_path is not None and self.path.is_dir() and (fault := self.folder_problem(test_path)):
            return [fault]
        return super().problems()

    def add(self, listing: Listing, path: str, word: str, split: str) -> None:
        """Label a clip by its word. Clips of `testing_list.txt` are used only without a test archive."""
        listing.groups[_LISTS[TEST] if split == TEST else split] += 1
        if split != TEST or self.config.test_path is None:
            label = KS1_CLASSES.index(word if word in KEYWORDS else UNKNOWN)
            listing.add(f"{_ARCHIVE}/{path}", (label,), split=split)

    def read(self) -> Listing:
        """Read the archive, then the noise recordings and the test archive if there is one."""
        listing = super().read()
        noises = [f"{name}.wav" for name in NOISES]
        there = set(names_in(self.path / NOISE))
        listing.groups["noise recordings"] = len(there.intersection(noises))
        listing.missing += [f"{NOISE}/{name}" for name in noises if name not in there]
        if self.config.test_path is not None:
            _read_test_archive(self.config.test_path, listing)
        return listing

    @property
    def is_ready(self) -> bool:
        return self._silence.is_ready

    def prepare(self) -> None:
        """Cut the noise recordings unless they are already cut.

        Raises:
            CorpusError: if the corpus is missing, malformed or incomplete
        """
        self.check()
        self._silence.prepare()

    def manifest(self) -> Manifest:
        """List the spoken clips, then the silence, all below a folder of the cache.

        Raises:
            CorpusError: if the corpus is missing, malformed or incomplete; the message has the numbers and the remedy
        """
        self.prepare()
        silence, listing = self._silence.manifest(), self.listing
        joined = replace(
            listing,
            paths=[*listing.paths, *map(str, silence.paths)],
            splits=[*listing.splits, *map(str, silence.splits)],
            labels=[*listing.labels, *[(KS1_CLASSES.index(SILENCE),)] * len(silence)],
            folds=[*listing.folds, *map(int, silence.folds)],
        )
        return self.manifest_of(joined, self._silence.folder)

    @cached_property
    def _silence(self) -> _Silence:
        noises = [self.path / NOISE / f"{name}.wav" for name in NOISES]
        digests = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in noises if path.is_file()}
        test_path = self.config.test_path
        return _Silence(
            _SilenceConfig(
                archive=str(self.path.resolve()),
                test_archive=None if test_path is None else str(test_path.resolve()),
                noises=digests,
            )
        )


def _read_test_archive(folder: Path, listing: Listing) -> None:
    unknown = [name for name in names_in(folder) if (folder / name).is_dir() and name not in KS1_CLASSES]
    if unknown:
        names, allowed = ", ".join(f"`{name}`" for name in unknown), ", ".join(KS1_CLASSES)
        listing.problems.append(f"the test archive `{folder}` contains the folders {names}; allowed: {allowed}.")
    for label, name in enumerate(KS1_CLASSES):
        for clip in names_in(folder / name, ".wav"):
            listing.add(f"{_TEST_ARCHIVE}/{name}/{clip}", (label,), split=TEST, groups=("test archive",))


class _SilenceConfig(Config):
    """Settings that determine the cut clips and the links."""

    archive: str
    """Folder of the unpacked archive."""
    test_archive: str | None
    """Folder of the unpacked test archive, which has clips of silence."""
    noises: dict[str, str]
    """SHA-256 of each noise recording that is present."""


class _Silence(RenderedCorpus):
    """Clips of one second cut from the noise recordings, and links to the archives."""

    name = "speech_commands_v1"
    version = 1
    label_names = (SILENCE,)

    def __init__(self, config: _SilenceConfig) -> None:
        super().__init__(config)
        self._config = config

    def jobs(self) -> tuple[str, Sequence[dict[str, Any]]]:
        """Return a single job, because cutting takes only a second."""
        return f"{__name__}:cut_silence", [self._config.model_dump(mode="json")]

    def problems(self) -> list[str]:
        """Return no problems: no package is needed, and the archive is checked before."""
        return []


def cut_silence(folder: Path, job: dict[str, Any]) -> list[RenderedClip]:
    """Cut noise recordings into clips of a second below `folder`, and link the archives there.

    Raises:
        CorpusError: if a recording cannot be read or is not mono at 16 kHz
    """
    config = _SilenceConfig(**job)
    (folder / _ARCHIVE).symlink_to(config.archive, target_is_directory=True)
    if config.test_archive is not None:
        (folder / _TEST_ARCHIVE).symlink_to(config.test_archive, target_is_directory=True)
    return [clip for name in config.noises for clip in _seconds_of(name, folder, config)]


def _seconds_of(name: str, folder: Path, config: _SilenceConfig) -> Iterator[RenderedClip]:
    path = Path(config.archive, NOISE, f"{name}.wav")
    try:
        samples, sample_rate = soundfile.read(path, dtype="int16")
    except (OSError, RuntimeError) as error:
        raise CorpusError(f"`{path}` cannot be read: {error}; unpack the archive again.") from error
    if samples.ndim != 1 or sample_rate != SAMPLE_RATE:
        raise CorpusError(f"`{path}` is not mono at {SAMPLE_RATE} Hz as in the archive; unpack the archive again.")
    count = len(samples) // SAMPLE_RATE
    for second in range(count):
        split = TRAIN if second < 0.8 * count else VALID if second < 0.9 * count else TEST
        if split != TEST or config.test_archive is None:
            clip = samples[second * SAMPLE_RATE : (second + 1) * SAMPLE_RATE]
            title = f"{name}-{second:03d}"
            yield write_clip(folder, clip, split=split, label=SILENCE, name=title, content=name)
