"""The typed configurations of the built-in corpora and of their survey; importable without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..core.config import Config


class FolderConfig(Config):
    """A tree of audio files."""

    path: Path = Field(strict=False)
    """Folder that holds the recordings, at any depth. Symbolic links are followed; each file counts once."""
    labels: Literal["none", "folders"] = "none"
    """`folders`: a clip is labelled by the first folder below `path`, or below its split's folder."""
    splits: Literal["auto", "folders", "shares"] = "auto"
    """`folders`: the first level below `path` is named train, valid, test or unlabelled; `shares`: clips are drawn by a
    hash of their path; `auto`: `folders` if every first-level folder bears such a name, else `shares`."""
    valid_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the clips drawn for validation, in [0, 1); without split folders only."""
    test_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the clips drawn for testing, in [0, 1); without split folders only."""
    split_seed: int = 0
    """Enters the hash that draws the splits; adding files never moves those already there."""


class CsvConfig(Config):
    """A table with one clip a row, in UTF-8 (`.csv` with commas, `.tsv` with tabs), headed by their names."""

    path: Path = Field(strict=False)
    """The table."""
    root: Path | None = Field(default=None, strict=False)
    """Folder that the paths in the table are relative to; the table's own folder if not given."""
    path_column: str = "path"
    """Column of the recordings' paths."""
    label_column: str | None = None
    """Column with the one label of each clip."""
    labels_column: str | None = None
    """Column with any number of labels of each clip, for multi-label corpora."""
    separator: str = Field(default=";", min_length=1)
    """Stands between the labels in `labels_column`."""
    label_names: tuple[str, ...] | None = Field(default=None, strict=False)
    """The labels in the order of their ids; those in the table, sorted, if not given."""
    split_column: str = "split"
    """Column of train, valid, test or unlabelled; every clip is in train if there is no such column."""
    valid_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the table's training clips that are drawn for validation, in [0, 1), where it has none of its own."""
    split_seed: int = 0
    """Enters the hash that draws them; adding rows never moves those already there."""
    fold_column: str = "fold"
    """Column of the cross-validation fold, a whole number; optional."""
    duration_column: str | None = None
    """Column of the durations in seconds that the recordings should have; lets the survey find truncated ones."""


class GmNotesConfig(Config):
    """`gm_notes`: notes of General MIDI instruments, played from the soundfont in the `pretty_midi` wheel."""

    train_per_class: int = Field(default=60, ge=1)
    """Labelled training clips of each of the 16 instruments."""
    valid_per_class: int = Field(default=12, ge=0)
    """Validation clips of each instrument."""
    test_per_class: int = Field(default=25, ge=0)
    """Test clips of each instrument."""
    unlabelled: int = Field(default=1024, ge=0)
    """Clips without labels, spread over all 128 melodic programs."""


class SpokenWordsConfig(Config):
    """`spoken_words`: single words spoken by the eSpeak NG in the `espeakng-loader` wheel."""

    words: int = Field(default=20, ge=2, le=20)
    """How many words (the classes)."""
    voices: int = Field(default=92, ge=6, le=92)
    """How many voices say each word; about 61 % of them train, 13 % validate and 26 % test."""


class SyntheticConfig(Config):
    """`synthetic`: tones in noise, drawn from a seed, of any length; for trying things out."""

    path: Path | None = Field(default=None, strict=False)
    """Folder to keep the clips in; the cache if not given."""
    classes: int = Field(default=4, ge=1)
    """How many pitches there are (the classes)."""
    clips_per_class: int = Field(default=4, ge=1)
    """Clips of each class in train, valid and test; as many in all are unlabelled."""
    seconds: float = Field(default=2.0, gt=0)
    """Length of every clip."""
    multi_label: bool = False
    """Whether every other clip has two tones, and a clip as many labels as tones."""
    seed: int = Field(default=0, ge=0)
    """Another seed gives other clips."""


class SurveyRules(Config):
    """When a recording counts as bad."""

    min_seconds: float = Field(default=0.1, ge=0)
    """Shorter clips are `too_short`."""
    silent_peak_dbfs: float = -60.0
    """Clips whose mono mix never exceeds this level are `silent`; 0 dBFS is full scale."""
    silent_rms_dbfs: float = -75.0
    """Clips whose mono mix has a root mean square below this level are `silent`."""
    max_clipped_share: float = Field(default=0.01, ge=0, le=1)
    """Clips with a larger share of samples in flat runs at full scale are `clipped`."""
    truncated_seconds: float = Field(default=0.05, ge=0)
    """Clips that lack more than this of the length that their header or table states are `truncated`."""
    max_bad_share: float = Field(default=0.05, ge=0, le=1)
    """A corpus with a larger share of bad recordings is not used."""
