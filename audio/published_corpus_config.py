"""Configurations of the published corpora, importable without torch."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from ..core.config import Config


class PublishedConfig(Config):
    """A corpus in the folders and files that its owners distribute."""

    goes_by_path: ClassVar[bool] = False

    path: Path = Field(strict=False)
    """Folder of the unpacked corpus, with the files as distributed."""


class WholeConfig(PublishedConfig):
    """A published corpus that must be complete, because its results are compared with those of papers."""

    partial: bool = False
    """Whether to use an incomplete corpus instead of refusing it. The card lists the missing clips."""


class Esc50Config(WholeConfig):
    """ESC-50: 2,000 environmental sounds of 5 s in 50 classes and 5 folds."""


class IemocapConfig(WholeConfig):
    """IEMOCAP: 5,531 acted utterances in 4 emotions. The 5 sessions are the folds."""


class SpeechCommandsV1Config(WholeConfig):
    """Speech Commands v0.01 in 12 classes (KS1): ten words, unknown and silence."""

    test_path: Path | None = Field(default=None, strict=False)
    """Folder of the official test archive `speech_commands_test_set_v0.01`, on which papers report. Defaults to testing
    on the clips of `testing_list.txt`."""


class SpeechCommandsV2Config(WholeConfig):
    """Speech Commands v0.02 in 35 classes (KS2), one for each word."""


class AudioSetConfig(PublishedConfig):
    """The available part of AudioSet. Videos are removed from YouTube over time, so no copy is complete."""

    valid_share: float = Field(default=0.02, ge=0, lt=1)
    """Share of the training clips drawn for validation, in [0, 1). AudioSet has no validation split."""
    split_seed: int = 0
    """Seed of the hash of the video identifiers that draws the validation clips."""


class AudioSet20kConfig(AudioSetConfig):
    """AudioSet-20K: the balanced training segments, tested on the evaluation segments. 527 classes, many per clip."""


class AudioSet2mConfig(AudioSetConfig):
    """AudioSet-2M: all training segments, tested on the evaluation segments. 527 classes, several per clip."""
